"""Many policies in one look-up: all thresholds of one exit, or a whole line of policies.

A threshold decides, of the texts that come to its exit, which are answered there; all others go
where they went. So two look-ups, one where all of them are answered there and one where none is,
hold every threshold between (`scan`). Along a line whose thresholds only fall a text moves to
earlier exits only, so each exit answers it on one stretch of the line (`sweep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import Lookup, choose_entry, spent
from adaptive.policy.targets import divide, excess
from adaptive.types import ALWAYS, Evaluation, Policy, Target

Floats = NDArray[np.float64]

_ABOVE = 2.0  # a threshold that no reliability reaches, of an exit that is switched on


def scan(
    lookup: Lookup, targets: Sequence[Target], policy: Policy, stage: int, values: Sequence[float]
) -> tuple[Floats, Floats, Floats]:
    """Mean cost [v], mean excess [v, c] and its standard error [v, c] at each threshold.

    To rounding they are what a look-up of each policy tells
    (`adaptive.policy.targets.mean_excess`).

    Args:
        policy: whose threshold at the stage is varied.
        stage: before the last that is switched on.
        values: ascending.
    """
    table = lookup.table
    ends = [lookup.evaluate(policy.with_threshold(stage, v)) for v in (ALWAYS, _ABOVE)]
    sure = table.reliability[:, stage]
    passed = np.searchsorted(np.asarray(values, np.float32), sure, side="right")  # so many values

    def sums(ends: Sequence[Floats], inside: NDArray[np.int32], groups: int) -> Floats:
        """At each threshold and in each group, [v, g]."""
        answered, left = ends
        place = passed * np.int64(groups) + inside
        size = (len(values) + 1) * groups
        more = np.bincount(place, answered - left, size).reshape(-1, groups)
        base = np.bincount(inside, left, groups)
        found: Floats = base + more[::-1].cumsum(0)[::-1][1:]
        return found

    everyone = np.zeros(len(table), dtype=np.int32)
    cost = sums([each.cost for each in ends], everyone, 1)[:, 0] / len(table)
    means, errors = [], []
    for target in targets:
        groups = divide(target, table)
        count = np.bincount(groups.index, minlength=len(groups.names))
        some = np.maximum(count, 1)
        lost = [excess(target, each, table, _drop(lookup, each)) for each in ends]
        mean = sums(lost, groups.index, len(some)) / some
        square = sums([each**2 for each in lost], groups.index, len(some)) / some
        errors.append(np.sqrt(np.maximum(square - mean**2, 0.0) / some))
        means.append(np.where(count, mean, -np.inf))
    return cost, np.concatenate(means, 1), np.concatenate(errors, 1)


def _drop(lookup: Lookup, result: Evaluation) -> Floats | None:
    if lookup.drop is None:
        return None
    found: Floats = lookup.drop[np.arange(len(lookup.drop)), result.stage]
    return found


@dataclass(frozen=True, slots=True)
class Sums:
    """What the policies of a line cost and lose, summed over the texts."""

    cost: Floats  # [s]
    lost: Floats  # [s, c] of each target in each of its groups, as in `mean_excess`
    square: Floats  # [s, c] of what is lost, squared
    count: Floats  # [c] texts


def sweep(lookup: Lookup, targets: Sequence[Target], line: Sequence[Policy]) -> Sums:
    """What a look-up of each policy of a line tells, to rounding.

    Args:
        targets: may be none; then costs alone are told.
        line: policies that differ in thresholds alone, which nowhere rise from one to the next;
            the same exits are switched on in all. They answer every text. Where entry rules
            differ too, each policy is looked up by itself.
    """
    table, first, size = lookup.table, line[0], len(line)
    if any(policy.risk_weight != first.risk_weight for policy in line):
        return _one_by_one(lookup, targets, line)
    on = [k for k in range(len(table.stages)) if first.on(k)]
    entry = choose_entry(first, table.risk)
    levels = np.array([policy.thresholds for policy in line], dtype=np.float32)
    groups = [divide(target, table) for target in targets]
    inside = [np.zeros(len(table), dtype=np.int32), *(each.index for each in groups)]
    widths = [1, *(len(each.names) for each in groups)]
    totals = [np.zeros((2, size + 1, width)) for width in widths]
    everyone = np.ones(len(table), dtype=np.bool_)
    until = np.full(len(table), size)  # later stages answer before this place of the line
    for stage in on:
        since = np.zeros(len(table), dtype=np.int64)
        if stage != on[-1]:
            since = np.searchsorted(-levels[:, stage], -table.reliability[:, stage])
            since[entry > table.stages[stage].tier] = size
            since = np.minimum(since, until)
        where = np.full(len(table), stage, dtype=np.int32)
        cost = spent(first, table.stages, lookup.run, lookup, where, entry)
        score, alike = (
            each[:, stage].astype(np.float64) for each in (table.worth.score, table.worth.alike)
        )
        answer = Evaluation(where, entry, everyone, score, alike, cost)
        lost = [excess(target, answer, table, _drop(lookup, answer)) for target in targets]
        for total, width, index, values in zip(totals, widths, inside, [cost, *lost], strict=True):
            for power in (0, 1):
                weights = values ** (power + 1)
                for place, sign in ((since, 1.0), (until, -1.0)):
                    found = np.bincount(place * width + index, weights, (size + 1) * width)
                    total[power] += sign * found.reshape(-1, width)
        until = since
    sums = [total.cumsum(1)[:, :size] for total in totals]
    nothing = np.zeros((size, 0))
    counts = [np.bincount(each.index, minlength=len(each.names)) for each in groups]
    return Sums(
        cost=sums[0][0, :, 0],
        lost=np.concatenate([nothing, *(each[0] for each in sums[1:])], 1),
        square=np.concatenate([nothing, *(each[1] for each in sums[1:])], 1),
        count=np.concatenate([np.zeros(0), *counts]),
    )


def _one_by_one(lookup: Lookup, targets: Sequence[Target], line: Sequence[Policy]) -> Sums:
    table = lookup.table
    groups = [divide(target, table) for target in targets]
    counts = [np.bincount(each.index, minlength=len(each.names)) for each in groups]
    width = sum(map(len, counts))
    cost, lost, square = np.empty(len(line)), *np.empty((2, len(line), width))
    for place, policy in enumerate(line):
        did = lookup.evaluate(policy)
        cost[place] = did.cost.sum()
        values = [excess(target, did, table, _drop(lookup, did)) for target in targets]
        for power, total in ((1, lost), (2, square)):
            parts = [
                np.bincount(each.index, value**power, len(each.names))
                for each, value in zip(groups, values, strict=True)
            ]
            total[place] = np.concatenate([np.zeros(0), *parts])
    return Sums(cost, lost, square, np.concatenate([np.zeros(0), *counts]))
