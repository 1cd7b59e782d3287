"""Entry rules that learn nothing, in the place of a policy's own: what its router has to beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import Lookup
from adaptive.policy.worth import worse_of
from adaptive.routers.baselines import always_tier, at_random, by_length, oracle
from adaptive.types import Policy


def forced_entries(lookup: Lookup, policy: Policy) -> dict[str, NDArray[np.int32]]:
    """The entry tier of each text under every baseline rule, among the policy's tiers."""
    table, path = lookup.table, list(policy.path)
    rows = len(table)
    counts = np.bincount(lookup.evaluate(policy).entry, minlength=table.risk.shape[1])[path]
    # whole numbers are summed, since a sum of shares may come out above 1
    cuts = np.quantile(table.tokens, counts.cumsum()[:-1] / rows).tolist()
    last = {s.tier: k for k, s in enumerate(table.stages)}
    ends = [last[tier] for tier in path]
    good = ~worse_of(table)[:, path]
    names = np.asarray(path, dtype=np.int32)
    return {
        "always_tiny": names[always_tier(rows, 0)],
        "always_full": names[always_tier(rows, len(path) - 1)],
        "by_length": names[by_length(table.tokens, cuts)],
        "at_random": names[at_random(rows, (counts / rows).tolist(), 0)],
        "oracle": names[oracle(lookup.run[:, ends], good)],
    }


def forced(lookup: Lookup, policy: Policy, entry: NDArray[np.int32]) -> tuple[Lookup, Policy]:
    """A look-up and policy of the same thresholds whose texts enter where they are told, free."""
    tiers = lookup.table.risk.shape[1]
    risk = (np.arange(tiers) != entry[:, None]).astype(np.float32)
    free = replace(lookup, table=replace(lookup.table, risk=risk), router=np.zeros(len(risk)))
    return free, replace(policy, risk_weight=1.0, entry_cost=(0.0,) * tiers)
