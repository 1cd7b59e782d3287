"""Targets as means that must not exceed zero, so that one search and one test serve them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive.policy import Evaluation, Floats
from adaptive.types import Groups, OutcomeTable, Target, Targets


def excess(
    target: Target, result: Evaluation, table: OutcomeTable, drop: Floats | None = None
) -> Floats:
    """Each text's share in breaking the target, [n]: the target holds where the mean is <= 0.

    Every metric becomes a mean of bounded values this way, so that one test serves them all.
    A text that nobody answers weighs nothing: E[answered x (loss - level)] <= 0 just where
    E[loss | answered] <= level, so the target is then about the texts that are answered.

    Args:
        result: what a policy did with the table's texts.
        drop: [n] what the predictions are expected to lose against the full tier's, in place of
            what the labels say they lost; `agreement` has no use for it.

    Raises:
        ValueError: the metric needs labels and the table has none.
    """
    prediction, full = result.prediction, table.predictions[:, -1]
    answered = prediction >= 0
    if target.metric == "abstention":
        nobody: Floats = (~answered).astype(np.float64)
        return nobody - target.level
    if target.metric == "agreement":
        differs: Floats = (prediction != full).astype(np.float64)
        return (differs - target.level) * answered
    if (table.labels < 0).any():
        raise ValueError(f"the target {target.metric!r} needs labels; `agreement` needs none")
    full_right: Floats = (full == table.labels).astype(np.float64)
    right: Floats = (prediction == table.labels).astype(np.float64)
    if drop is not None:
        right = full_right - drop
    if target.metric == "accuracy":
        return (target.level - right) * answered
    return ((1.0 - target.level) * full_right - right) * answered


def several(target: Targets) -> tuple[Target, ...]:
    """One target or more, all of which must hold, as a tuple.

    Raises:
        ValueError: there is none, or they are promised at different confidences.
    """
    targets = (target,) if isinstance(target, Target) else tuple(target)
    found = sorted({each.confidence for each in targets})
    if len(found) != 1:
        told = " and ".join(f"{each:g}" for each in found) or "no target at all"
        raise ValueError(f"targets that must hold together share one confidence, found {told}")
    return targets


def divide(target: Target, table: OutcomeTable) -> Groups:
    """The groups in each of which the target must hold: its column's, or one of all texts.

    Raises:
        ValueError: the table has no such column.
    """
    if target.group is None:
        return Groups(("",), np.zeros(len(table), dtype=np.int32))
    if target.group not in table.groups:
        told = ", ".join(sorted(table.groups)) or "none"
        raise ValueError(f"the target's group {target.group!r} is no column here; known: {told}")
    groups = table.groups[target.group]
    if (groups.index < 0).any():
        raise ValueError(f"the target needs the group {target.group!r} of every row")
    return groups


def mean_excess(
    targets: Sequence[Target],
    result: Evaluation,
    table: OutcomeTable,
    drop: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Mean excess of each target in each of its groups, and its standard error, both [c].

    All targets hold where no mean is above 0. A group without texts has a mean of -inf: nothing
    here speaks against it.

    Raises:
        ValueError: the table lacks labels or a column that a target needs.
    """
    means: list[Floats] = []
    errors: list[Floats] = []
    for target in targets:
        values = excess(target, result, table, drop)
        if target.group is None:
            means.append(values.mean(keepdims=True))
            errors.append(values.std(keepdims=True) / np.sqrt(len(values)))
            continue
        groups = divide(target, table)
        count = np.bincount(groups.index, minlength=len(groups.names))
        some = np.maximum(count, 1)
        mean = np.bincount(groups.index, values, len(count)) / some
        square = np.bincount(groups.index, (values - mean[groups.index]) ** 2, len(count)) / some
        means.append(np.where(count, mean, -np.inf))
        errors.append(np.sqrt(square / some))
    return np.concatenate(means), np.concatenate(errors)
