"""The verdict on recorded outcomes, in plain words.

- REPLACE: one cheaper model answers everything and keeps the promise.
- CERTIFIED: a policy between models keeps it, and saves enough to be worth it.
- NOT CERTIFIED: the rows do not prove the next policy; so many would, about.
- DO NOT ROUTE: nothing cheaper keeps the promise, or what does saves too little.
"""

from __future__ import annotations

from typing import Literal

from adaptive.policy import is_bare
from adaptive.recorded.layouts import Layout
from adaptive.types import Policy

Verdict = Literal["REPLACE", "CERTIFIED", "NOT CERTIFIED", "DO NOT ROUTE"]
LEAST = 1.05  # times less than the full model that routing must cost to be worth it


def verdict_of(
    policy: Policy, layout: Layout, certified: int, front: int, saving: float
) -> Verdict:
    """The verdict on a policy.

    Args:
        policy: that is served.
        certified: policies of the front that passed.
        front: policies that were tested.
        saving: how many times less it costs than the full model alone.
    """
    full = policy.on(len(layout.stages) - 1) and is_bare(policy)
    if certified and not full and saving >= LEAST:
        return "REPLACE" if is_bare(policy) else "CERTIFIED"
    if certified < front and saving < LEAST and full:
        return "NOT CERTIFIED"
    return "DO NOT ROUTE"
