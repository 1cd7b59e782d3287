"""The verdict on recorded outcomes, in plain words.

- REPLACE: one cheaper model answers everything and keeps the promise.
- CERTIFIED: a policy between models keeps it, and saves enough to be worth it.
- NOT CERTIFIED: the rows do not prove the next policy; so many would, about.
- DO NOT ROUTE: nothing cheaper keeps the promise, or what does saves too little.
"""

from __future__ import annotations

from typing import Literal

from adaptive.certificate.promises import Certificate
from adaptive.policy.lookup import is_bare
from adaptive.policy.metrics import promise
from adaptive.recorded.figures import Figures
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
    full = is_bare(policy) and policy.on(len(layout.stages) - 1)
    if certified and not full and saving >= LEAST:
        return "REPLACE" if is_bare(policy) else "CERTIFIED"
    if certified < front and (full or not certified):
        return "NOT CERTIFIED"
    return "DO NOT ROUTE"


def verdict(certificate: Certificate, layout: Layout, figures: Figures) -> Verdict:
    """The verdict on a certificate."""
    return verdict_of(
        certificate.policy,
        layout,
        certificate.certified,
        len(certificate.front),
        figures.saving,
    )


def headline(certificate: Certificate, layout: Layout, figures: Figures) -> str:
    """The verdict and what to do, in a sentence or two."""
    found, full = verdict(certificate, layout, figures), layout.models[-1]
    told = " and ".join(promise(target) for target in certificate.targets)
    sure = f"at {certificate.confidence_proved:.4g} confidence on {certificate.n:,} requests"
    if found == "REPLACE":
        only = answering(certificate.policy, layout)
        return (
            f"REPLACE: serve {only} in place of {full}. It keeps the promise ({told}) by itself, "
            f"{sure}, and costs {figures.saving:.3g} times less."
        )
    if found == "CERTIFIED":
        return (
            f"CERTIFIED: route. The policy keeps the promise ({told}) {sure}, and costs "
            f"{figures.saving:.3g} times less than {full} alone."
        )
    if found == "NOT CERTIFIED":
        needed = certificate.rows_needed
        if needed is None:
            way = "On these requests the next policy misses the promise; more of them would not do."
        else:
            way = f"The next policy needs about {needed:,} requests to certify on."
        if certificate.labels_needed:
            way += f" Of these about {certificate.labels_needed:,} need a score: those that differ."
        return f"NOT CERTIFIED: serve {full}. There is no proof of the promise ({told}). {way}"
    if certificate.certified and figures.saving > 1.001:
        saved = f"what keeps it saves too little ({figures.saving:.3g} times)"
    else:
        saved = "nothing cheaper keeps it on the rows that were searched"
    return f"DO NOT ROUTE: serve {full}. Of the promise ({told}): {saved}."


def answering(policy: Policy, layout: Layout) -> str:
    """The one model that answers under a policy of a single stage."""
    stage = next(k for k in range(len(layout.stages)) if policy.on(k))
    return layout.models[stage - 1] if stage else "no model"
