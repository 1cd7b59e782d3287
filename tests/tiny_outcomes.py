"""Outcome and cost tables made up for tests of policies and their search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from adaptive.bundle.contents import stages_of
from adaptive.policy.lookup import Lookup
from adaptive.policy.worth import classified, reclassified
from adaptive.types import ALWAYS, NEVER, Evaluation, OutcomeTable, Policy, StageCosts

DEPTHS = ((0,), (0, 1, 3), (0, 2, 4, 6))
STAGES = stages_of(DEPTHS)


def random_table(seed: int, rows: int = 40, classes: int = 3) -> OutcomeTable:
    """Stages that disagree and are sure or unsure at random."""
    rng = np.random.default_rng(seed)
    return classified(
        stages=STAGES,
        predictions=rng.integers(0, classes, (rows, len(STAGES))).astype(np.int32),
        reliability=rng.random((rows, len(STAGES)), dtype=np.float32),
        risk=rng.random((rows, len(DEPTHS)), dtype=np.float32),
        labels=rng.integers(0, classes, rows).astype(np.int32),
        tokens=rng.integers(1, 50, rows),
    )


def random_costs(seed: int, rows: int = 40) -> StageCosts:
    """Every piece of every text at a price of its own, so that none can be mistaken."""
    rng = np.random.default_rng(seed)
    return StageCosts(
        unit="coins",
        embed=rng.random((rows, len(DEPTHS))),
        segment=rng.random((rows, len(STAGES))),
        head=rng.random((rows, len(STAGES))),
        router=rng.random(rows),
    )


def random_policy(seed: int, *, routed: bool) -> Policy:
    """Some tiers, some of their exits, with a router in front or without."""
    rng = np.random.default_rng(seed)
    tiers = np.flatnonzero(rng.random(len(DEPTHS)) < 0.7)
    path = tuple(int(tier) for tier in (tiers if len(tiers) else [len(DEPTHS) - 1]))
    thresholds = [NEVER] * len(STAGES)
    for tier in path:
        inside = [k for k, stage in enumerate(STAGES) if stage.tier == tier]
        on = [k for k in inside if rng.random() < 0.6] or [inside[int(rng.integers(len(inside)))]]
        for k in on:
            thresholds[k] = float(rng.choice([rng.random(), rng.random(), ALWAYS]))
    if not routed:
        return Policy(path, tuple(thresholds))
    prices = tuple(float(price) for price in rng.random(len(DEPTHS)))
    return Policy(path, tuple(thresholds), float(rng.random() * 2), prices)


def saying(prediction: ArrayLike, table: OutcomeTable, cost: ArrayLike = 0.0) -> Evaluation:
    """What a policy that answers so, -1 for none, would have done, as far as targets ask."""
    answers = np.array(prediction, dtype=np.int32)
    nowhere = np.zeros_like(answers)
    score = np.where(table.labels < 0, np.nan, answers == table.labels)
    alike = (answers == table.reference).astype(np.float64)
    costs = np.broadcast_to(cost, answers.shape)
    return Evaluation(nowhere, nowhere, answers >= 0, score, alike, costs)


def rising_cascade(seed: int, rows: int = 200) -> Lookup:
    """Later stages are better and dearer; all are sure where they are right."""
    rng = np.random.default_rng(seed)
    table, costs = random_table(seed, rows), random_costs(seed, rows)
    right = rng.random((rows, len(STAGES))) < np.linspace(0.5, 0.95, len(STAGES))
    predictions = np.where(right, table.labels[:, None], (table.labels[:, None] + 1) % 3)
    sure = 0.5 * rng.random((rows, len(STAGES))) + 0.5 * right
    table = reclassified(table, predictions=predictions.astype(np.int32))
    table = replace(table, reliability=sure.astype(np.float32))
    prices = np.array([0.1, 1, 3, 3, 1, 8, 8, 8])
    return Lookup.of(table, replace(costs, segment=costs.segment * prices))
