"""How free a line's thresholds are: as free as the search rows can tell.

A threshold of its own for each exit suits the texts best where rows are many, and the luck of the
rows where they are few. One threshold for all exits uses up hardly a row. Between the two lie
thresholds pulled towards a shared one. Which of these ways leads to the cheapest certificate is
found by cross-validation inside the search rows (Stone 1974, cross-validatory choice and assessment
of statistical predictions, Journal of the Royal Statistical Society B 36): each way makes its
line on the rows outside a fold, and the fold's own rows say what the line's policies lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from adaptive.lines import STEPS, between, completed, moving, shifting
from adaptive.policy import Lookup
from adaptive.scan import Sums, sweep
from adaptive.search import Judge, paths, shared_thresholds
from adaptive.targets import several
from adaptive.types import OutcomeTable, Policy, Targets

Floats = NDArray[np.float64]

FREEDOMS = (0.5, 1.0)  # see `between`
FOLDS = 5
COSTS = 120  # at so many mean costs lines are compared
LUCK = (-1.0, -0.5, 0.0, 0.5, 1.0)  # standard errors by which certification rows may be lucky
LEVEL = 0.97  # of a shared threshold; where it stands is no matter, its line has them all


@dataclass(frozen=True, slots=True)
class Way:
    """How a line is made from rows."""

    like: Policy  # its path and its entry rule are kept
    freedom: float  # 0: one threshold for all exits; up to 1: see `between`; above: as found
    drop: Floats | None = None  # [n, k] losses expected in place of the labels'


def ways(
    lookup: Lookup, found: Policy, drops: Sequence[Floats | None] = (None,)
) -> Iterator[Way]:
    """All that are compared, from the least free.

    Args:
        found: the policy that a search on all rows found.
        drops: of those rows, each a reading of the losses to search by.
    """
    full = lookup.table.stages[-1].tier
    for path in paths(lookup):
        if full in path:
            yield Way(replace(found, path=path, risk_weight=None, entry_cost=()), 0.0)
    for freedom in (0.0, *FREEDOMS, 2.0):
        for drop in drops:
            yield Way(found, freedom, drop)


def line(
    lookup: Lookup, target: Targets, way: Way, *, margin: float, sweeps: int, steps: int = STEPS
) -> list[Policy]:
    """The way's policies, from where hardly a text leaves early to where far more do than may."""
    path = tuple(sorted({*way.like.path, lookup.table.stages[-1].tier}))
    even = shared_thresholds(lookup.table.stages, path, LEVEL)
    even = replace(way.like, path=path, thresholds=even.thresholds)
    if way.freedom == 0.0:
        return shifting(lookup, even, steps)
    judge = Judge(replace(lookup, drop=way.drop), target, margin)
    start = judge.shared(path, even)
    if start is None:  # no room for the margin: too few rows
        judge = Judge(judge.lookup, target, 0.0, judge.scores)
        start = judge.shared(path, even) or judge(replace(even, thresholds=judge.safest(even)))
    free = completed(lookup, judge.descend(start, sweeps).policy)
    if way.freedom > 1.0:
        return moving(lookup, free, steps)
    level = max(each for each in start.policy.thresholds if np.isfinite(each))
    return shifting(lookup, between(free, level, way.freedom), steps)


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

    Args:
        rows: that the certificate will be tested on; None: as many as these.
    """
    size = len(lookup.table)
    order = np.random.default_rng(0).permutation(size)
    held = [np.sort(order[fold::FOLDS]) for fold in range(FOLDS)]
    kept = [np.setdiff1d(order, each) for each in held]
    parts = [(taken(lookup, own), taken(lookup, other)) for own, other in zip(held, kept, strict=True)]
    found = []
    for way in tried:
        lines = []
        for (own, other), rest in zip(parts, kept, strict=True):
            each = replace(way, drop=None if way.drop is None else way.drop[rest])
            made = line(other, target, each, margin=margin, sweeps=sweeps, steps=COSTS)
            cost = sweep(lookup, several(target), made).cost / size
            lines.append((cost, sweep(replace(own, drop=None), several(target), made)))
        scale = np.sqrt(size / (rows or size))
        found.append(_certified_at(lines, several(target)[0].confidence, scale))
    return found


def _certified_at(
    lines: Sequence[tuple[Floats, Sums]], confidence: float, scale: float
) -> float:
    ends = [np.log(cost[[0, -1]]) for cost, _ in lines]
    costs = np.linspace(max(dear for dear, _ in ends), min(cheap for _, cheap in ends), COSTS)
    lost, square = (
        sum(_at(costs, np.log(cost), getattr(sums, name)) for cost, sums in lines)
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
    """A line's sums [s, c] at log costs [g], between its policies' [s] linearly."""
    rising = np.maximum.accumulate(-own)
    return np.stack([np.interp(-costs, rising, each) for each in values.T], 1)


def taken(lookup: Lookup, rows: NDArray[np.int64]) -> Lookup:
    """The look-up of some of the rows."""
    names = ("run", "bare", "router", "decision", "drop")
    values = {name: getattr(lookup, name) for name in names}
    return replace(
        lookup,
        table=_columns(lookup.table.take(rows)),
        **{
            name: None if value is None else np.asfortranarray(value[rows])
            for name, value in values.items()
        },
    )


def _columns(table: OutcomeTable) -> OutcomeTable:
    names = ("predictions", "reliability", "risk")
    return replace(table, **{name: np.asfortranarray(getattr(table, name)) for name in names})
