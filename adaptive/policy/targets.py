"""Targets as means that must not exceed zero, so that one search and one test serve them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptive.errors import TargetError
from adaptive.policy.lookup import Floats
from adaptive.policy.metrics import METRICS, metric_of, target_fault
from adaptive.policy.worth import lost_at_most
from adaptive.types import Evaluation, Groups, OutcomeTable, Target, Targets


def excess(
    target: Target, result: Evaluation, table: OutcomeTable, drop: Floats | None = None
) -> Floats:
    """Each text's share in breaking the target, [n]: the target holds where the mean is <= 0.

    Every metric becomes a mean of bounded values this way, see `adaptive.policy.metrics`.

    Args:
        result: what a policy did with the table's texts.
        drop: [n] what the answers are expected to lose against the full tier's, in place of
            what their scores say they lost; `agreement` has no use for it.

    Raises:
        ValueError: the metric needs labels and the table has none.
    """
    metric, worth = metric_of(target), table.worth
    if metric.labelled:
        if table.sampled is not None and metric.kind == "drop":
            lost = lost_at_most(result, worth)
            return (lost - target.level * table.sampled.accuracy) * result.answered
        if not worth.known:
            raise ValueError(f"the target {target.metric!r} needs labels; `agreement` needs none")
        if drop is not None:
            result = replace(result, score=worth.reference - drop)
    return metric.excess(target, result, worth.reference)


def several(target: Targets) -> tuple[Target, ...]:
    """One target or more, all of which must hold, as a tuple.

    Raises:
        ValueError: there is none, one has a level or bound that it cannot have, or they are
            promised at different confidences.
    """
    targets = (target,) if isinstance(target, Target) else tuple(target)
    for each in targets:
        if fault := target_fault(each):
            raise ValueError(f"target {each.metric!r}: {fault}")
    found = sorted({each.confidence for each in targets})
    if len(found) != 1:
        told = " and ".join(f"{each:g}" for each in found) or "no target at all"
        raise ValueError(f"targets that must hold together share one confidence, found {told}")
    return targets


def seeks_quality(targets: Sequence[Target]) -> bool:
    """Whether costs are all that is promised, so that answers are to be as good as they allow."""
    about = {metric_of(target).about for target in targets} - {"abstention"}
    return about == {"costs"}


def about_costs(targets: Sequence[Target]) -> bool:
    """Whether any of the targets is about costs."""
    return any(metric_of(target).about == "costs" for target in targets)


def may_abstain(targets: Sequence[Target]) -> bool:
    """Whether the targets let policies leave texts to a person."""
    return any(metric_of(target).about == "abstention" for target in targets)


def full_may_miss(targets: Sequence[Target], table: OutcomeTable) -> bool:
    """Whether the full tier alone can miss a target other than `accuracy`.

    It can by its cost, and where it is not the reference itself: where it is not served in float32
    in torch, which it is held to.
    """
    return about_costs(targets) or not table.worth.own


def check_unit(targets: Sequence[Target], unit: str) -> None:
    """Check that the targets about costs are in the unit of the costs.

    Raises:
        TargetError: naming the first that is not.
    """
    for target in targets:
        wanted = metric_of(target).unit or unit
        if wanted != unit:
            raise TargetError(
                f"the target {target.metric!r} is in {wanted}, and the costs are in "
                f"{unit}; name a target in that unit, or bring costs in the target's "
                "(a recipe's `search.minimise`)"
            )


def quality(table: OutcomeTable, confidence: float = 0.95) -> Target:
    """What answers are compared by beside a promise about costs, at a level of nothing lost.

    A drop in accuracy, or in a graded score, where every score is known, or asked for where it
    decides; else `agreement`.
    """
    drop = "accuracy_drop" if table.worth.exact else "score_drop"
    known = table.worth.known or table.sampled is not None
    return Target(drop if known else "agreement", 0.0, confidence)


def loss(result: Evaluation, table: OutcomeTable, drop: Floats | None = None) -> float:
    """The least level at which the rows would keep `quality`; below 0 where answers are better."""
    target, weight = quality(table), result.answered.astype(np.float64)
    if table.sampled is not None:
        weight = weight * table.sampled.accuracy
    elif METRICS[target.metric].kind == "drop":
        weight = weight * table.worth.reference
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
