"""Lines of policies: one policy, tightened and loosened as a whole.

All thresholds of a line move together, so neighbours answer almost all texts alike: their p-values
rise together, and a sequence of tests seldom ends at one that is unlucky by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import Lookup, last_exits
from adaptive.types import ALWAYS, Policy

Floats = NDArray[np.float64]

LINE = (0.98, -1.0)  # the ends of a line that is `moved`
STEPS = 200  # of a line: many, since most of what is saved lies in the last of them
REACH = 2.0  # log odds by which an exit's threshold may differ from the shared one
SMALLEST = 1e-6  # share whose log odds are told from those of 0


def moving(lookup: Lookup, base: Policy, steps: int = STEPS) -> list[Policy]:
    """All thresholds `moved` by one share after the other."""
    return [moved(lookup, base, share) for share in np.linspace(*LINE, steps).tolist()]


def shifting(lookup: Lookup, base: Policy, steps: int = STEPS) -> list[Policy]:
    """All thresholds shifted alike in log odds, and with them how much a router's risk weighs.

    Thresholds that are equal stay so. Where a text leaves as soon as its risk is below a price
    times what going on would cost, each exit's threshold is at a distance of its own from the
    others', in log odds, and the price shifts all alike. An entry rule adds costs to weighted
    risks, so its weight is one over that price. Were it to stay, texts that enter late would be
    answered late however loose the thresholds, and the line would end there.
    """
    early = _early(base)
    if not early:
        return [base]
    own = log_odds(np.array([base.thresholds[k] for k in early]))
    shifts = log_odds(lookup.table.reliability[:, early]) - own
    places = np.unique(np.quantile(shifts, np.linspace(0.0, 1.0, steps)))[::-1]
    made = [_with(base, early, own + shift) for shift in places.tolist()]
    if base.risk_weight is None:
        return made
    weights = base.risk_weight * np.exp(places)
    return [replace(p, risk_weight=w) for p, w in zip(made, weights.tolist(), strict=True)]


def between(policy: Policy, level: float, freedom: float) -> Policy:
    """Its thresholds pulled towards one level, in log odds; exits that are off stay so.

    Args:
        freedom: 0: all are the level; 1: they stay, but for those farther from it than `REACH`.
    """
    early, middle = _early(policy), log_odds(np.array(level))
    own = np.array([max(policy.thresholds[k], 0.0) for k in early])
    away = np.clip(log_odds(own) - middle, -REACH, REACH)
    return _with(policy, early, middle + freedom * away)


def log_odds(shares: NDArray[np.floating]) -> Floats:
    """Those of 0 and 1 are finite."""
    inside = np.clip(shares.astype(np.float64), SMALLEST, 1.0 - SMALLEST)
    found: Floats = np.log(inside / (1.0 - inside))
    return found


def _early(policy: Policy) -> list[int]:
    """All exits but the last, whose threshold decides nothing."""
    return [k for k in range(len(policy.thresholds)) if policy.on(k)][:-1]


def _with(policy: Policy, stages: list[int], odds: Floats) -> Policy:
    thresholds = list(policy.thresholds)
    for stage, share in zip(stages, (1.0 / (1.0 + np.exp(-odds))).tolist(), strict=True):
        thresholds[stage] = share
    return replace(policy, thresholds=tuple(thresholds))


def completed(lookup: Lookup, policy: Policy) -> Policy:
    """The policy with the full tier's last exit behind its own last, which lets all texts pass.

    It answers like the policy, and as soon as thresholds are tightened it falls back on the full
    tier. Else the line of a policy that ends before would never come near it. One that abstains is
    left as it is: which texts are left unanswered is decided at its own last exit.
    """
    stages = lookup.table.stages
    if policy.on(len(stages) - 1) or policy.abstain != ALWAYS:
        return policy
    last = last_exits(policy, stages)[policy.path[-1]]
    thresholds = [*policy.thresholds[:-1], 0.0]
    thresholds[last] = float(lookup.table.reliability[:, last].min())
    path = tuple(sorted({*policy.path, stages[-1].tier}))
    return replace(policy, path=path, thresholds=tuple(thresholds))


def moved(lookup: Lookup, policy: Policy, share: float) -> Policy:
    """The policy with all its thresholds moved by a share of the texts each of them holds back.

    At 1 a threshold lets no text of the rows pass; at 0 it stays where it is; below, the
    share of texts under it shrinks: where q are held back, 1 - (1 - q)(1 - share) are.
    """
    thresholds = list(policy.thresholds)
    for stage, threshold in enumerate(thresholds):
        if np.isfinite(threshold):
            scores = lookup.table.reliability[:, stage]
            held = 1.0 - float((scores >= threshold).mean()) * (1.0 - share)
            thresholds[stage] = float(np.quantile(scores, held)) if held > 0.0 else ALWAYS
    return replace(policy, thresholds=tuple(thresholds))
