"""Targets as means that must not exceed zero, so that one search and one test serve them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.costs import UNITS
from adaptive.errors import TargetError
from adaptive.policy import Evaluation, Floats
from adaptive.types import BUDGETS, Groups, OutcomeTable, Target, Targets


def excess(
    target: Target, result: Evaluation, table: OutcomeTable, drop: Floats | None = None
) -> Floats:
    """Each text's share in breaking the target, [n]: the target holds where the mean is <= 0.

    Every metric becomes a mean of bounded values this way, so that one test serves them all.
    A text that nobody answers weighs nothing: E[answered x (loss - level)] <= 0 just where
    E[loss | answered] <= level, so the target is then about the texts that are answered. What it
    cost is counted all the same.

    Args:
        result: what a policy did with the table's texts.
        drop: [n] what the predictions are expected to lose against the full tier's, in place of
            what the labels say they lost; `agreement` has no use for it.

    Raises:
        ValueError: the metric needs labels and the table has none.
    """
    prediction, full = result.prediction, table.reference
    answered = prediction >= 0
    if target.metric in BUDGETS:  # as a share of the budget, as other excesses are shares
        dear: Floats = result.cost / target.level - 1.0
        return dear
    if target.bound is not None:
        slow: Floats = (result.cost > target.bound).astype(np.float64)
        return slow - target.level
    if target.metric == "abstention":
        nobody: Floats = (~answered).astype(np.float64)
        return nobody - target.level
    if target.metric == "agreement":
        differs: Floats = (prediction != full).astype(np.float64)
        return (differs - target.level) * answered
    if table.sampled is not None and target.metric == "accuracy_drop":
        return (_lost(prediction, table) - target.level * table.sampled.accuracy) * answered
    if (table.labels < 0).any():
        raise ValueError(f"the target {target.metric!r} needs labels; `agreement` needs none")
    full_right: Floats = (full == table.labels).astype(np.float64)
    right: Floats = (prediction == table.labels).astype(np.float64)
    if drop is not None:
        right = full_right - drop
    if target.metric == "accuracy":
        return (target.level - right) * answered
    return ((1.0 - target.level) * full_right - right) * answered


def _lost(prediction: NDArray[np.int32], table: OutcomeTable) -> Floats:
    """Right answers of the full tier less those of the predictions, [n], where few have labels.

    An answer unlike the full tier's counts as lost where no label says more.
    """
    full, labels = table.reference, table.labels
    lost = (full == labels).astype(np.float64) - (prediction == labels)
    found: Floats = np.where(labels < 0, prediction != full, lost).astype(np.float64)
    return found


def several(target: Targets) -> tuple[Target, ...]:
    """One target or more, all of which must hold, as a tuple.

    Raises:
        ValueError: there is none, one has a level or bound that it cannot have, or they are
            promised at different confidences.
    """
    targets = (target,) if isinstance(target, Target) else tuple(target)
    for each in targets:
        if each.fault:
            raise ValueError(f"target {each.metric!r}: {each.fault}")
    found = sorted({each.confidence for each in targets})
    if len(found) != 1:
        told = " and ".join(f"{each:g}" for each in found) or "no target at all"
        raise ValueError(f"targets that must hold together share one confidence, found {told}")
    return targets


def seeks_quality(targets: Sequence[Target]) -> bool:
    """Whether costs are all that is promised, so that answers are to be as good as they allow."""
    about = {target.metric for target in targets} - {"abstention"}
    return bool(about) and about <= UNITS.keys()


def about_costs(targets: Sequence[Target]) -> bool:
    """Whether any of the targets is about costs."""
    return any(target.metric in UNITS for target in targets)


def full_may_miss(targets: Sequence[Target], table: OutcomeTable) -> bool:
    """Whether the full tier alone can miss a target other than `accuracy`.

    It can by its cost, and where it is not served in float32 in torch, which it is held to.
    """
    return about_costs(targets) or table.in_float32 is not None


def check_unit(targets: Sequence[Target], unit: str) -> None:
    """Check that the targets about costs are in the unit of the costs.

    Raises:
        TargetError: naming the first that is not.
    """
    for target in targets:
        if UNITS.get(target.metric, unit) != unit:
            raise TargetError(
                f"the target {target.metric!r} is in {UNITS[target.metric]}, and the costs are in "
                f"{unit}; name a target in that unit, or bring costs in the target's "
                "(a recipe's `search.minimise`)"
            )


def quality(table: OutcomeTable, confidence: float = 0.95) -> Target:
    """What answers are compared by beside a promise about costs, at a level of nothing lost.

    `accuracy_drop` where every label is known, or asked for where it decides, else `agreement`.
    """
    known = bool((table.labels >= 0).all()) or table.sampled is not None
    return Target("accuracy_drop" if known else "agreement", 0.0, confidence)


def loss(result: Evaluation, table: OutcomeTable, drop: Floats | None = None) -> float:
    """The least level at which the rows would keep `quality`; below 0 where answers are better."""
    target, weight = quality(table), result.prediction >= 0
    if table.sampled is not None:
        right = weight.sum() * table.sampled.accuracy
        return float(excess(target, result, table).sum() / max(right, 1))
    if target.metric == "accuracy_drop":
        weight = weight & (table.reference == table.labels)
    return float(excess(target, result, table, drop).sum() / max(weight.sum(), 1))


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
            middle = values.mean(keepdims=True)
            rest = values - middle
            means.append(middle)
            errors.append(np.sqrt((rest * rest).mean(keepdims=True)) / np.sqrt(len(values)))
            continue
        groups = divide(target, table)
        count = np.bincount(groups.index, minlength=len(groups.names))
        some = np.maximum(count, 1)
        mean = np.bincount(groups.index, values, len(count)) / some
        square = np.bincount(groups.index, (values - mean[groups.index]) ** 2, len(count)) / some
        means.append(np.where(count, mean, -np.inf))
        errors.append(np.sqrt(square / some))
    return np.concatenate(means), np.concatenate(errors)
