"""Families of policies, each from one knob, and rules that decide otherwise than a policy does.

A family is made on the rows to search on. Levels are quantiles of the measure there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import Lookup, single_stage
from adaptive.policy.search import paths, shared_thresholds
from adaptive.types import ALWAYS, NEVER, Evaluation, Policy, Stage

Floats = NDArray[np.float64]
Family = Callable[[Lookup], list[Policy]]

LEVELS = 60
WEIGHTS = 40
VECTORS = 1500  # thresholds tried by Pareto Testing


def lasts_of(stages: Sequence[Stage]) -> list[int]:
    """The last stage of each tier."""
    return [max(k for k, s in enumerate(stages) if s.tier == t) for t in _tiers(stages)]


def shared(path: tuple[int, ...]) -> Family:
    """One threshold on every exit of the path."""

    def family(lookup: Lookup) -> list[Policy]:
        stages = lookup.table.stages
        on = [k for k, s in enumerate(stages) if s.tier in path]
        first = _levels(lookup.table.reliability[:, on[0]], 20)
        values = sorted({*first, *_levels(lookup.table.reliability[:, on])})
        return [shared_thresholds(stages, path, v) for v in values]

    return family


def tiers_shared(tiers: Sequence[int]) -> Family:
    """Whole tiers in turn, one threshold on all, on every path of these tiers."""

    def family(lookup: Lookup) -> list[Policy]:
        stages, found = lookup.table.stages, []
        lasts = lasts_of(stages)
        for path in paths(tiers):
            on = [lasts[t] for t in path]
            for v in _levels(lookup.table.reliability[:, on], 30):
                found.append(_only(stages, dict.fromkeys(on, v)))
        return list(dict.fromkeys(found))

    return family


def tiers_free(tiers: Sequence[int]) -> Family:
    """Whole tiers in turn, a threshold each, on every path of these tiers."""

    def family(lookup: Lookup) -> list[Policy]:
        stages, scores, found = lookup.table.stages, lookup.table.reliability, []
        lasts = lasts_of(stages)
        for path in paths(tiers):
            *early, last = [lasts[t] for t in path]
            for levels in product(*(_levels(scores[:, k], 16) for k in early)):
                found.append(_only(stages, {**dict(zip(early, levels, strict=True)), last: 0.0}))
        return found

    return family


def agreeing(first: int, second: int) -> Family:
    """Where two cheap models agree they answer, else the full one does."""

    def family(lookup: Lookup) -> list[Policy]:
        stages = lookup.table.stages
        lasts = lasts_of(stages)
        both = _only(stages, {lasts[second]: 0.5, lasts[-1]: 0.0})
        return [both, single_stage(stages, lasts[first]), single_stage(stages, lasts[-1])]

    return family


def routed(tiers: Sequence[int]) -> Family:
    """The tier with the least cost and weighted risk answers; nothing exits, nothing escalates.

    Of two tiers the weights are those at which the quantiles of the risk go to the second.
    """

    def family(lookup: Lookup) -> list[Policy]:
        stages, found = lookup.table.stages, []
        lasts = lasts_of(stages)
        entry = tuple(float(lookup.run[:, k].mean()) for k in lasts)
        for path in paths(tiers):
            if len(path) < 2:
                continue
            base = _only(stages, {lasts[t]: ALWAYS for t in path})
            weights = max(entry) * np.logspace(-1.0, 3.0, WEIGHTS)
            if len(path) == 2:
                gap = lookup.table.risk[:, path[0]] - lookup.table.risk[:, path[1]]
                cuts = np.unique(np.quantile(gap, np.linspace(0.0, 1.0, LEVELS)))
                weights = (entry[path[1]] - entry[path[0]]) / np.maximum(cuts, 1e-9)
            for weight in weights.tolist():
                found.append(replace(base, risk_weight=weight, entry_cost=entry))
        return found + [single_stage(stages, lasts[t]) for t in tiers]

    return family


def vectors(path: tuple[int, ...]) -> Family:
    """Threshold vectors drawn at random, of which those stay that no other beats in both aims."""

    def family(lookup: Lookup) -> list[Policy]:
        table, draw = lookup.table, np.random.default_rng(0)
        on = [k for k, s in enumerate(table.stages) if s.tier in path]
        ordered = np.sort(table.reliability[:, on], axis=0)
        tried = []
        for _ in range(VECTORS):
            shares = np.clip(draw.random() + draw.normal(0.0, 0.15, len(on)), 0.0, 1.0)
            places = (shares * (len(ordered) - 1)).round().astype(int)
            levels = ordered[places, np.arange(len(on))].tolist()
            policy = _only(table.stages, dict(zip(on, levels, strict=True)))
            did = lookup.evaluate(policy)
            tried.append((float(did.cost.mean()), -float(did.score.mean()), policy))
        kept, best = [], np.inf
        for _cost, loss, policy in sorted(tried, key=lambda each: each[:2]):
            if loss < best:
                kept.append(policy)
                best = loss
        return [*kept, *shared(path)(lookup)[-1:]]

    return family


def priced(lookup: Lookup) -> list[Policy]:
    """What a loss is worth, from nothing to everything, for rules that weigh it against costs."""
    stages = lookup.table.stages
    base = _only(stages, dict.fromkeys(lasts_of(stages), ALWAYS))
    scale = float(lookup.run.max(1).mean())
    weights = scale * np.logspace(-3.0, 4.0, 2 * WEIGHTS)
    return [replace(base, risk_weight=weight) for weight in weights.tolist()]


def cascade_routing(lookup: Lookup, policy: Policy) -> Evaluation:
    """Dekoninck et al. (2025): after each answer the best way on, or to stop, is chosen anew.

    The first tier always runs. After tier j those above are each weighed by their expected quality,
    told from what is known by then, less the price of running them; the best runs next, until
    stopping is as good. The answer is the one of the best expectation. To run two tiers further
    instead of one is never better here, since the full tier's quality is 1 and costs are sums.

    Args:
        lookup: whose risk is [n, m x m], of each tier after each, the latter varying slowest.
        policy: its `risk_weight` is what a loss is worth, in the unit of costs. A policy without
            one is looked up as it is.
    """
    if policy.risk_weight is None:
        return lookup.evaluate(policy)
    table, lasts = lookup.table, lasts_of(lookup.table.stages)
    size, tiers = len(table), len(lasts)
    risk = table.risk.reshape(size, tiers, tiers).astype(np.float64)
    price = lookup.run[:, lasts].mean(0) / max(policy.risk_weight, 1e-12)
    rows = np.arange(size)
    cost = lookup.run[:, lasts[0]].copy()
    at, answer, least = np.zeros(size, int), np.zeros(size, int), risk[:, 0, 0].copy()
    going = np.ones(size, dtype=np.bool_)
    for tier in range(tiers - 1):
        here = going & (at == tier)
        onward = risk[:, tier, tier + 1 :] + price[tier + 1 :]
        chosen = onward.argmin(1) + tier + 1
        going &= ~here | (onward.min(1) < least)
        moved = here & going
        cost[moved] += lookup.run[rows, np.array(lasts)[chosen]][moved]
        at[moved] = chosen[moved]
        told = risk[rows, at, at]  # once it has answered
        better = moved & (told <= least)
        answer[better], least[better] = at[better], told[better]
    stage = np.array(lasts, dtype=np.int32)[answer]
    return _did(lookup, stage, cost)


def hindsight(lookup: Lookup, policy: Policy) -> Evaluation:
    """The stage of the least cost and weighted loss, by the truth; it alone runs."""
    if policy.risk_weight is None:
        return lookup.evaluate(policy)
    price = lookup.bare - policy.risk_weight * lookup.table.worth.score
    stage = price.argmin(1).astype(np.int32)
    return _did(lookup, stage, lookup.bare[np.arange(len(stage)), stage])


def _did(lookup: Lookup, stage: NDArray[np.int32], cost: Floats) -> Evaluation:
    worth, rows = lookup.table.worth, np.arange(len(stage))
    score, alike = (each[rows, stage].astype(np.float64) for each in (worth.score, worth.alike))
    return Evaluation(stage, np.zeros_like(stage), np.ones(len(stage), bool), score, alike, cost)


def _tiers(stages: Sequence[Stage]) -> range:
    return range(stages[-1].tier + 1)


def _only(stages: Sequence[Stage], levels: dict[int, float]) -> Policy:
    """Thresholds at these stages, all other exits off."""
    path = tuple(sorted({stages[k].tier for k in levels}))
    return Policy(path, tuple(levels.get(k, NEVER) for k in range(len(stages))))


def _levels(scores: NDArray[np.floating], count: int = LEVELS) -> list[float]:
    """Quantiles, close together where hardly anything leaves, and one that nothing reaches."""
    spread = np.concatenate(
        [np.linspace(0.0, 0.95, count // 2), 1 - np.geomspace(0.05, 5e-4, count // 2)]
    )
    values = np.unique(np.quantile(scores, spread)).tolist()
    return [*values, float(np.nextafter(np.float32(scores.max()), np.float32(np.inf)))]
