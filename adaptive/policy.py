"""What a policy would have done: look-ups in the outcome table and the cost table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.types import (
    ALWAYS,
    NEVER,
    Groups,
    OutcomeTable,
    Policy,
    Stage,
    StageCosts,
    Target,
    Targets,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a policy did with each text."""

    stage: Ints  # [n] the stage that answered
    entry: Ints  # [n] the tier entered
    prediction: Ints  # [n] -1 where nobody answers
    cost: Floats  # [n]


def single_stage(stages: tuple[Stage, ...], stage: int) -> Policy:
    """The policy that answers every text at one stage."""
    thresholds = [NEVER] * len(stages)
    thresholds[stage] = ALWAYS
    return Policy(path=(stages[stage].tier,), thresholds=tuple(thresholds))


def tier_alone(stages: tuple[Stage, ...], tier: int) -> Policy:
    """The policy that runs one whole tier and nothing else."""
    return single_stage(stages, max(k for k, s in enumerate(stages) if s.tier == tier))


def last_exits(policy: Policy, stages: tuple[Stage, ...]) -> dict[int, int]:
    """The last switched-on stage of each tier on the path.

    Raises:
        ValueError: the policy does not fit the stages, or a tier of its path has no exit.
    """
    if len(policy.thresholds) != len(stages):
        raise ValueError(
            f"the policy has {len(policy.thresholds)} thresholds, the cascade {len(stages)} stages"
        )
    last = {s.tier: k for k, s in enumerate(stages) if policy.on(k)}
    if tuple(sorted(last)) != policy.path:
        raise ValueError(
            f"the policy's path is {policy.path}, its exits are on tiers {sorted(last)}"
        )
    return last


def is_bare(policy: Policy) -> bool:
    """Whether one stage answers everything, so that nothing needs be estimated."""
    alone = sum(t != NEVER for t in policy.thresholds) == 1
    return alone and policy.risk_weight is None and policy.abstain == ALWAYS


def abstains(
    policy: Policy, stages: tuple[Stage, ...], stage: Ints, reliability: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which texts nobody answers, [n], by the stage they came to and its reliability, both [n]."""
    if policy.abstain == ALWAYS:
        return np.zeros(len(stage), dtype=np.bool_)
    final = last_exits(policy, stages)[policy.path[-1]]
    unsure: NDArray[np.bool_] = (stage == final) & (reliability < np.float32(policy.abstain))
    return unsure


def choose_entry(policy: Policy, risk: NDArray[np.floating]) -> Ints:
    """The tier each text enters, [n], from the router's risk [n, m]."""
    if policy.risk_weight is None:
        return np.full(len(risk), policy.path[0], dtype=np.int32)
    path = list(policy.path)
    price = np.asarray(policy.entry_cost)[path] + policy.risk_weight * risk[:, path]
    entry: Ints = np.asarray(path, dtype=np.int32)[price.argmin(1)]
    return entry


def run_costs(stages: tuple[Stage, ...], costs: StageCosts, *, bare: bool = False) -> Floats:
    """What entering each stage's tier and running it up to the stage costs each text, [n, k].

    Args:
        bare: the stage's own head alone is run, as under a policy that `is_bare`; else the
            heads before it are too, whether switched on or not: later ones look back at them.
    """
    run = np.empty_like(costs.segment)
    for tier in {s.tier for s in stages}:
        inside = [k for k, s in enumerate(stages) if s.tier == tier]
        heads = costs.head[:, inside]
        layers = costs.embed[:, [tier]] + costs.segment[:, inside].cumsum(1)
        run[:, inside] = layers + (heads if bare else heads.cumsum(1))
    return run


def spent(
    policy: Policy, stages: tuple[Stage, ...], run: Floats, router: Floats, stage: Ints, entry: Ints
) -> Floats:
    """What each text cost that entered at tier `entry` and was answered at `stage`, all [n].

    Args:
        run: [n, k] of `run_costs`, bare where the policy is.
        router: [n].
    """
    cost: Floats = _at(run, stage)
    answered = np.array([s.tier for s in stages])[stage]
    for tier, through in last_exits(policy, stages).items():
        cost += np.where((entry <= tier) & (tier < answered), run[:, through], 0.0)
    if not is_bare(policy):  # the first stage speaks even where the text entered elsewhere
        cost += np.where(entry == 0, 0.0, run[:, 0])
    return cost + router if policy.risk_weight is not None else cost


@dataclass(frozen=True, slots=True)
class Lookup:
    """An outcome table and its costs, made ready for thousands of policies."""

    table: OutcomeTable
    run: Floats  # [n, k] of `run_costs`
    bare: Floats  # [n, k] the same for policies of a single stage
    router: Floats  # [n]
    sure: NDArray[np.float32]  # [k, n] reliability, a stage's in one piece
    drop: Floats | None = None  # [n, k] expected losses, in place of what the labels say

    @classmethod
    def of(cls, table: OutcomeTable, costs: StageCosts, drop: Floats | None = None) -> Lookup:
        """Sum the pieces of each stage once."""
        run, bare = (run_costs(table.stages, costs, bare=each) for each in (False, True))
        sure = np.ascontiguousarray(table.reliability.T)
        return cls(table, run, bare, costs.router, sure, drop)

    def evaluate(self, policy: Policy) -> Evaluation:
        """Stage, prediction and cost of each text under the policy."""
        table = self.table
        entry = choose_entry(policy, table.risk)
        final = max(last_exits(policy, table.stages).values())
        early = [k for k in range(final) if policy.on(k)]
        ready = self.sure[early] >= np.array(policy.thresholds, dtype=np.float32)[early, None]
        if policy.risk_weight is not None:
            ready &= entry <= np.array([table.stages[k].tier for k in early])[:, None]
        first = np.where(ready, np.array(early, dtype=np.int16)[:, None], np.int16(final))
        stage = first.min(0, initial=final).astype(np.int32)
        run = self.bare if is_bare(policy) else self.run
        cost = spent(policy, table.stages, run, self.router, stage, entry)
        prediction = _at(table.predictions, stage)
        if policy.abstain != ALWAYS:
            reliability = _at(table.reliability, stage)
            prediction[abstains(policy, table.stages, stage, reliability)] = -1
        return Evaluation(stage, entry, prediction, cost)


def _at(values: NDArray[Any], stage: Ints) -> NDArray[Any]:
    """Each row's value at its stage, [n] of [n, k]; the flat index is the faster one."""
    found: NDArray[Any] = values.ravel().take(np.arange(len(values)) * values.shape[1] + stage)
    return found


def evaluate(policy: Policy, table: OutcomeTable, costs: StageCosts) -> Evaluation:
    """What the policy would have done with the table's texts."""
    return Lookup.of(table, costs).evaluate(policy)


def excess(
    target: Target, prediction: Ints, table: OutcomeTable, drop: Floats | None = None
) -> Floats:
    """Each text's share in breaking the target, [n]: the target holds where the mean is <= 0.

    Every metric becomes a mean of bounded values this way, so that one test serves them all.
    A text that nobody answers weighs nothing: E[answered x (loss - level)] <= 0 just where
    E[loss | answered] <= level, so the target is then about the texts that are answered.

    Args:
        prediction: [n], -1 where nobody answers.
        drop: [n] what the predictions are expected to lose against the full tier's, in place of
            what the labels say they lost; `agreement` has no use for it.

    Raises:
        ValueError: the metric needs labels and the table has none.
    """
    full, answered = table.reference, prediction >= 0
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
    prediction: Ints,
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
        values = excess(target, prediction, table, drop)
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


def keeps(target: Target, prediction: Ints, table: OutcomeTable, margin: float) -> bool:
    """Whether held-out rows keep the target by `margin` standard errors of the mean."""
    return bound(excess(target, prediction, table), margin) <= 0.0


def bound(values: Floats, margin: float) -> float:
    """Mean plus `margin` standard errors."""
    return float(values.mean() + margin * values.std() / np.sqrt(len(values)))
