"""How free a line's thresholds are: as free as the search rows can tell.

A threshold of its own for each exit suits the texts best where rows are many, and the luck of the
rows where they are few. One threshold for all exits uses up hardly a row. Between the two lie
thresholds pulled towards a shared one. Which of these ways leads to the cheapest certificate is
told by cross-validation inside the search rows (Stone 1974, cross-validatory choice and assessment
of statistical predictions, Journal of the Royal Statistical Society B 36): each way makes its
line on the rows outside a fold, and the fold's own rows say what the line's policies lose. A few
hundred rows tell that roughly, so the middle way is left only for one that looks much better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lines import STEPS, between, completed, shifting
from adaptive.policy.lookup import Lookup, useful_tiers
from adaptive.policy.scan import Sums, sweep
from adaptive.policy.search import Judge, paths, shared_thresholds
from adaptive.policy.targets import several
from adaptive.types import Policy, Targets

Floats = NDArray[np.float64]

MIDDLE, FREE = 0.5, 1.0  # see `between`
MUCH = 0.1  # share of its cost that a way must save over the middle one
FOLDS = 5
COSTS = 120  # at so many mean costs lines are compared
LUCK = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0)  # of certification rows, in standard errors
LEVEL = 0.97  # of a shared threshold; where it stands is no matter, its line has them all

Base = tuple[Policy, float]  # with thresholds as free as can be, and the shared one


@dataclass(frozen=True, slots=True)
class Way:
    """How a line is made from rows."""

    like: Policy  # its path and its entry rule are kept
    freedom: float  # of its thresholds, 0: one for all exits; see `between`
    drop: Floats | None = None  # [n, k] losses expected in place of the labels'


def best_line(
    lookup: Lookup,
    target: Targets,
    found: Policy,
    drops: Sequence[Floats | None],
    *,
    margin: float,
    sweeps: int,
    rows: int | None = None,
) -> list[Policy]:
    """From where hardly a text leaves early to where far more do than may, the best way.

    Args:
        found: by a search on these rows; its path and its entry rule are the line's, unless one
            threshold for all exits of another path is better by much.
        drops: readings of the losses to search by, [n, k] each, or None: the labels'. The first
            is the middle way's.
        margin: standard errors to spare in searches.
        rows: that the certificate will be tested on; None: as many as these.
    """
    tried = [Way(found, freedom, drop) for drop in drops for freedom in (MIDDLE, FREE)]
    for path in paths(useful_tiers(lookup.table)):
        if lookup.table.stages[-1].tier in path:
            tried.append(Way(replace(found, path=path, risk_weight=None, entry_cost=()), 0.0))
    costs = np.array(compared(lookup, target, tried, margin=margin, sweeps=sweeps, rows=rows))
    best = int(costs.argmin())
    way = tried[best if costs[best] < (1.0 - MUCH) * costs[0] else 0]
    return _line(lookup, _base(lookup, target, way, margin, sweeps), way.freedom, STEPS)


def compared(
    lookup: Lookup,
    target: Targets,
    tried: Sequence[Way],
    *,
    margin: float,
    sweeps: int,
    rows: int | None = None,
) -> list[float]:
    """The mean cost at which the lines of each way would be certified, [w], as far as one can tell.

    The policies of a line are named by their mean cost: all rows tell it, whatever their labels.
    What the policies of one cost lose is put together from the folds, each policy's from rows
    that it was not found on. The way's cost is that of the cheapest policy before the first that
    would fail the test. How lucky the certification rows are is not known, so it is a mean over
    several lucks.
    """
    targets, size = several(target), len(lookup.table)
    labelled, scale = replace(lookup, drop=None), np.sqrt(size / (rows or size))
    order = np.random.default_rng(0).permutation(size)
    held = [np.sort(order[fold::FOLDS]) for fold in range(FOLDS)]
    kept = [np.sort(np.setdiff1d(order, fold)) for fold in held]
    own, other = ([lookup.take(rows) for rows in each] for each in (held, kept))
    bases: dict[tuple[Policy, int], list[Base]] = {}

    def costs(way: Way) -> float:
        if way.freedom == 0.0:  # the rows decide nothing
            made = _line(lookup, _base(lookup, target, way, margin, sweeps), 0.0, COSTS)
            sums = sweep(labelled, targets, made)
            return _certified_at([(sums.cost / size, sums)], targets[0].confidence, scale)
        key = (way.like, id(way.drop))
        if key not in bases:
            parts = [
                replace(way, drop=None if way.drop is None else way.drop[rows]) for rows in kept
            ]
            bases[key] = [
                _base(rest, target, part, margin, sweeps)
                for rest, part in zip(other, parts, strict=True)
            ]
        lines = []
        for rest, fold, base in zip(other, own, bases[key], strict=True):
            made = _line(rest, base, way.freedom, COSTS)
            cost = sweep(lookup, (), made).cost / size
            lines.append((cost, sweep(replace(fold, drop=None), targets, made)))
        return _certified_at(lines, targets[0].confidence, scale)

    return [costs(way) for way in tried]


def _base(lookup: Lookup, target: Targets, way: Way, margin: float, sweeps: int) -> Base:
    path = tuple(sorted({*way.like.path, lookup.table.stages[-1].tier}))
    even = shared_thresholds(lookup.table.stages, path, LEVEL)
    even = replace(way.like, path=path, thresholds=even.thresholds)
    if way.freedom == 0.0:
        return even, LEVEL
    judge = Judge(replace(lookup, drop=way.drop), target, margin)
    start = judge.shared(path, even)
    if start is None:  # no room for the margin: too few rows
        judge = Judge(judge.lookup, target, 0.0, judge.scores)
        start = judge.shared(path, even) or judge(even)
    level = max(each for each in start.policy.thresholds if np.isfinite(each))
    return completed(lookup, judge.descend(start, sweeps).policy), level


def _line(lookup: Lookup, base: Base, freedom: float, steps: int) -> list[Policy]:
    return shifting(lookup, between(*base, freedom), steps)


def _certified_at(lines: Sequence[tuple[Floats, Sums]], confidence: float, scale: float) -> float:
    """The cost before the first that fails.

    Args:
        lines: of each fold, the mean cost of its policies [s], and its sums.
        scale: of the standard errors.
    """
    logs = [np.log(np.maximum(cost, 1e-12)) for cost, _ in lines]
    costs = np.linspace(max(each[0] for each in logs), min(each[-1] for each in logs), COSTS)
    lost, square = (
        sum(
            _at(costs, own, getattr(sums, name)) for own, (_, sums) in zip(logs, lines, strict=True)
        )
        for name in ("lost", "square")
    )
    some = np.maximum(sum(sums.count for _, sums in lines), 1.0)
    mean = lost / some
    error = scale * np.sqrt(np.maximum(square / some - mean**2, 0.0) / some)
    found = []
    for luck in LUCK:
        bound = (mean + (NormalDist().inv_cdf(confidence) + luck) * error).max(1)
        failed = np.append(np.flatnonzero(bound > 0.0), len(costs))[0]
        found.append(costs[max(failed - 1, 0)])
    return float(np.exp(np.mean(found)))


def _at(costs: Floats, own: Floats, values: Floats) -> Floats:
    """A line's sums [s, c] at log costs [g], between those of its policies [s] linearly."""
    rising = np.maximum.accumulate(-own)
    return np.stack([np.interp(-costs, rising, each) for each in values.T], 1)
