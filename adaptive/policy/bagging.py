"""Thresholds that a whole line is made of: the mean of what resamples of the search rows find.

A search gives each exit the threshold that suits these very rows, and their luck with it: on other
rows such thresholds lose more than one that all exits share. So the search is repeated on bootstrap
samples of the rows, and each exit gets the mean of its thresholds in log odds (bagging: Breiman
1996, bagging predictors, Machine Learning 24). An exit that few of the samples switch on stays off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptive.policy.lines import completed, log_odds, shares, shifting
from adaptive.policy.lookup import Lookup, is_bare, useful_tiers
from adaptive.policy.search import Found, Judge, paths, shared_thresholds
from adaptive.types import NEVER, Policy, Targets

SAMPLES = 10
QUORUM = 0.3  # an exit is on that more than this share of the samples switch on
LEVEL = 0.97  # of a shared threshold; where it stands is no matter, its line has them all


def best_line(
    lookup: Lookup, target: Targets, found: Policy, *, margin: float, sweeps: int
) -> list[Policy]:
    """From where hardly a text leaves early to where far more do than may.

    Args:
        found: by a search on these rows. Its entry rule is the line's, if it has one, and its path
            then too.
        margin: standard errors to spare in searches.
    """
    last = lookup.table.stages[-1].tier
    choices = [tuple(sorted({*found.path, last}))]
    if found.risk_weight is None:
        choices = [path for path in paths(useful_tiers(lookup.table)) if last in path]
    rng, size = np.random.default_rng(0), len(lookup.table)
    samples = [lookup.take(np.sort(rng.integers(size, size=size))) for _ in range(SAMPLES)]
    searched = [_searched(each, target, found, choices, margin, sweeps) for each in samples]
    some = [policy for policy in searched if policy is not None]
    even = shared_thresholds(lookup.table.stages, choices[-1], LEVEL)
    return shifting(lookup, voted(lookup, found, some or [even]))


def _searched(
    lookup: Lookup,
    target: Targets,
    like: Policy,
    choices: Sequence[tuple[int, ...]],
    margin: float,
    sweeps: int,
) -> Policy | None:
    """The best policy on the cheapest path; None where no early exit keeps the target."""
    rule = None if like.risk_weight is None else like
    for spared in (margin, 0.0):  # too few rows may leave no room for the margin
        judge = Judge(lookup, target, spared)
        starts = [judge.shared(path, rule) for path in choices]
        kept: list[Found] = [f for f in starts if f is not None and not is_bare(f.policy)]
        if kept:
            start = min(kept, key=lambda f: f.cost)
            return completed(lookup, judge.descend(start, sweeps).policy)
    return None


def voted(lookup: Lookup, like: Policy, policies: Sequence[Policy]) -> Policy:
    """The mean of their thresholds at each exit that enough of them switch on.

    Args:
        like: whose entry rule it has.
        policies: they end at the full tier's last exit, which answers whatever comes to it.
    """
    stages = lookup.table.stages
    thresholds = [NEVER] * len(stages)
    for stage in range(len(stages) - 1):
        own = [max(each.thresholds[stage], 0.0) for each in policies if each.on(stage)]
        if len(own) > QUORUM * len(policies):
            thresholds[stage] = float(shares(log_odds(np.array(own)).mean()))
    thresholds[-1] = 0.0
    path = tuple(sorted({s.tier for s, at in zip(stages, thresholds, strict=True) if at != NEVER}))
    if like.risk_weight is not None:  # entry costs are of its tiers
        path = tuple(sorted({*like.path, *path}))
    return replace(like, path=path, thresholds=tuple(thresholds))
