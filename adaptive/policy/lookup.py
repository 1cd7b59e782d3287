"""What a policy would have done: look-ups in the outcome table and the cost table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.worth import scores_of
from adaptive.types import (
    ALWAYS,
    NEVER,
    Evaluation,
    OutcomeTable,
    Policy,
    Stage,
    StageCosts,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def single_stage(stages: tuple[Stage, ...], stage: int) -> Policy:
    """The policy that answers every text at one stage."""
    thresholds = [NEVER] * len(stages)
    thresholds[stage] = ALWAYS
    return Policy(path=(stages[stage].tier,), thresholds=tuple(thresholds))


def tier_alone(stages: tuple[Stage, ...], tier: int) -> Policy:
    """The policy that runs one whole tier and nothing else."""
    return single_stage(stages, max(k for k, s in enumerate(stages) if s.tier == tier))


def without_tiers(
    policy: Policy, stages: tuple[Stage, ...], gone: Collection[int]
) -> Policy | None:
    """The policy on what is left of its path; None where no tier is left.

    What went to a tier that is gone goes on to the next one, or is answered by the last that is
    left. Without the path's tiers, or without the first stage, which every text is shown to, the
    last tier that is left answers everything.

    Args:
        gone: tiers that must not run.
    """
    if not set(gone) & {0, *policy.path}:
        return policy
    path = tuple(tier for tier in policy.path if tier not in gone)
    if path and 0 not in gone:
        levels = zip(stages, policy.thresholds, strict=True)
        thresholds = tuple(NEVER if stage.tier in gone else level for stage, level in levels)
        return replace(policy, path=path, thresholds=thresholds)
    left = [stage.tier for stage in stages if stage.tier not in gone]
    return tier_alone(stages, left[-1]) if left else None


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


def useful_tiers(table: OutcomeTable) -> tuple[int, ...]:
    """The tiers that may stand on a path: the first, the full one, and those between that pay.

    A tier between is left out where a cheaper one is better: where the gain in score of its last
    exit over that of a cheaper tier, and a standard error of the gain, come to zero or less.
    Without scores, likeness to the reference takes their place. So is a first tier that is never
    right: one that is there for what it tells the router, such as an embedding, answers nothing.
    """
    last, score = {s.tier: k for k, s in enumerate(table.stages)}, scores_of(table)
    right = {tier: score[:, k].astype(np.float64) for tier, k in last.items()}
    first, *between = sorted(last)
    kept = [first] if right[first].any() or not len(table) or not between else []
    for tier in between[:-1]:
        best = max((right[each] for each in kept), key=lambda each: each.sum(), default=None)
        gain = right[tier] if best is None else right[tier] - best
        if gain.mean() + gain.std() / np.sqrt(max(len(gain), 1)) > 0.0:
            kept.append(tier)
    return (*kept, *between[-1:])


def is_bare(policy: Policy) -> bool:
    """Whether one stage answers everything, so that nothing needs be estimated."""
    alone = sum(t != NEVER for t in policy.thresholds) == 1
    return bool(alone and policy.risk_weight is None and policy.abstain == ALWAYS)


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
    entry = np.full(len(risk), policy.path[0], dtype=np.int32)
    least = np.full(len(risk), np.inf)
    for tier in policy.path:
        price = np.float64(policy.entry_cost[tier]) + policy.risk_weight * risk[:, tier]
        entry += (tier - entry) * (price < least)
        np.minimum(least, price, out=least)
    return entry


def run_costs(stages: tuple[Stage, ...], costs: StageCosts, *, bare: bool = False) -> Floats:
    """What entering each stage's tier and running it up to the stage costs each text, [n, k].

    Args:
        bare: the stage's own head alone is run, as under a policy that `is_bare`; else the
            heads before it are too, whether switched on or not: later ones look back at them.
    """
    run = np.empty_like(costs.segment, order="F")  # a stage's in one piece
    for tier in {s.tier for s in stages}:
        inside = [k for k, s in enumerate(stages) if s.tier == tier]
        heads = costs.head[:, inside]
        layers = costs.embed[:, [tier]] + costs.segment[:, inside].cumsum(1)
        run[:, inside] = layers + (heads if bare else heads.cumsum(1))
    return run


def decisions_before(policy: Policy, stages: tuple[Stage, ...]) -> Ints:
    """How often it is decided in a stage's tier before the stage is asked, [k]."""
    found, tier, count = [], -1, 0
    for k, stage in enumerate(stages):
        tier, count = stage.tier, count if stage.tier == tier else 0
        found.append(count)
        count += k == 0 or policy.on(k)  # the first stage always speaks
    return np.array(found, dtype=np.int32)


def spent(
    policy: Policy,
    stages: tuple[Stage, ...],
    run: Floats,
    costs: StageCosts | Lookup,
    stage: Ints,
    entry: Ints,
) -> Floats:
    """What each text cost that entered at tier `entry` and was answered at `stage`, all [n].

    Args:
        run: [n, k] of `run_costs`, bare where the policy is.
        costs: the router's and the decisions' are read, [n] each.
    """
    cost: Floats = _at(run, stage)
    before = None
    if costs.decision is not None and not is_bare(policy):
        before = decisions_before(policy, stages)
        cost += costs.decision * before[stage]
    routed = policy.risk_weight is not None
    for tier, through in list(last_exits(policy, stages).items())[:-1]:
        escalated = stage > through
        if routed:
            escalated &= entry <= tier
        cost += run[:, through] * escalated
        if before is not None and before[through]:
            cost += costs.decision * (before[through] * escalated)
    if not is_bare(policy) and (routed or policy.path[0] != 0):
        cost += run[:, 0] * (entry != 0)  # the first stage speaks wherever the text entered
    return cost + costs.router if routed else cost


def dearest(policies: Sequence[Policy], stages: tuple[Stage, ...], costs: StageCosts) -> Floats:
    """The most that a text can cost under each policy, [p], whatever it is answered.

    That is a text which enters the first tier of the path and is answered by the last stage.

    Args:
        costs: of every length [n] that a text can have.
    """
    runs = [run_costs(stages, costs, bare=bare) for bare in (False, True)]
    found = []
    for policy in policies:
        everywhere = np.ones(len(costs.router), dtype=np.int32)
        stage = everywhere * max(last_exits(policy, stages).values())
        entry = everywhere * policy.path[0]
        found.append(spent(policy, stages, runs[is_bare(policy)], costs, stage, entry).max())
    # another way through may add the same pieces in another order, hence round otherwise
    return np.array(found) * (1.0 + 1e-9)


@dataclass(frozen=True, slots=True)
class Lookup:
    """An outcome table and its costs, made ready for thousands of policies.

    In its arrays [n, k] and [n, m] the column of a stage or tier is one piece of memory. Masks are
    multiplied, not branched on: which texts a stage answers cannot be foreseen, by a processor
    either.
    """

    table: OutcomeTable
    unit: str  # of costs
    run: Floats  # [n, k] of `run_costs`
    bare: Floats  # [n, k] the same for policies of a single stage
    router: Floats  # [n]
    decision: Floats | None  # [n]
    drop: Floats | None = None  # [n, k] expected losses, in place of what the labels say

    @classmethod
    def of(cls, table: OutcomeTable, costs: StageCosts, drop: Floats | None = None) -> Lookup:
        """Sum the pieces of each stage once."""
        run, bare = (run_costs(table.stages, costs, bare=each) for each in (False, True))
        table = _in_columns(table)
        return cls(table, costs.unit, run, bare, costs.router, costs.decision, drop)

    def take(self, rows: NDArray[np.integer]) -> Lookup:
        """That of the given texts."""
        names = ("run", "bare", "router", "decision", "drop")
        values = {name: getattr(self, name) for name in names}
        parts: dict[str, Any] = {
            name: None if each is None else np.asfortranarray(each[rows])
            for name, each in values.items()
        }
        return replace(self, table=_in_columns(self.table.take(rows)), **parts)

    def evaluate(self, policy: Policy) -> Evaluation:
        """What the policy does with each text."""
        table = self.table
        entry = choose_entry(policy, table.risk)
        stage = _answering(policy, table, entry)
        run = self.bare if is_bare(policy) else self.run
        cost = spent(policy, table.stages, run, self, stage, entry)
        answered = np.ones(len(table), dtype=np.bool_)
        if policy.abstain != ALWAYS:
            reliability = _at(table.reliability, stage)
            answered = ~abstains(policy, table.stages, stage, reliability)
        score, alike = (
            _at(each, stage).astype(np.float64) for each in (table.worth.score, table.worth.alike)
        )
        return Evaluation(stage, entry, answered, score, alike, cost)


def _in_columns(table: OutcomeTable) -> OutcomeTable:
    def columns(value: Any, *names: str) -> dict[str, Any]:
        return {name: np.asfortranarray(getattr(value, name)) for name in names}

    worth = replace(table.worth, **columns(table.worth, "score", "alike"))
    return replace(table, worth=worth, **columns(table, "reliability", "risk"))


def _answering(policy: Policy, table: OutcomeTable, entry: Ints) -> Ints:
    """The stage that answers each text, [n]: the first it is sure enough at, or the last."""
    final = max(last_exits(policy, table.stages).values())
    *early, _ = on = [k for k in range(final + 1) if policy.on(k)]
    unsure = np.ones(len(table), dtype=np.bool_)
    place = np.zeros(len(table), dtype=np.int16)  # in `on`
    for k in early:
        ready = table.reliability[:, k] >= np.float32(policy.thresholds[k])
        if policy.risk_weight is not None:
            ready &= entry <= table.stages[k].tier
        np.greater(unsure, ready, out=unsure)  # unsure, and not ready
        place += unsure
    stage: Ints = np.array(on, dtype=np.int32).take(place)
    return stage


def _at(values: NDArray[Any], stage: Ints) -> NDArray[Any]:
    """Each row's value at its stage, [n] of [n, k]; the flat index is the faster one."""
    columns = values.T.reshape(-1)  # of a stage's in one piece: no copy
    found: NDArray[Any] = columns.take(stage * np.int64(len(values)) + np.arange(len(values)))
    return found


def evaluate(policy: Policy, table: OutcomeTable, costs: StageCosts) -> Evaluation:
    """What the policy would have done with the table's texts."""
    return Lookup.of(table, costs).evaluate(policy)


def predicted(result: Evaluation, table: OutcomeTable) -> Ints:
    """The classes that a policy answered, [n], -1 where it leaves a text to a person.

    Raises:
        ValueError: the table holds no classes.
    """
    found: Ints = np.where(result.answered, _at(table.predictions, result.stage), -1)
    return found
