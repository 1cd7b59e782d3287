"""All thresholds of one exit in one look-up.

A threshold decides, of the texts that come to its exit, which are answered there; all others go
where they went. So two look-ups, one where all of them are answered there and one where none is,
hold every threshold between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import Lookup
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
