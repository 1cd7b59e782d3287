"""Recorded answers of three made-up models, with graded scores and dollars; no model runs."""

from __future__ import annotations

import numpy as np

from adaptive.policy.prices import Price, Prices
from adaptive.policy.worth import graded
from adaptive.types import OutcomeTable, Stage, Usage

# a free embedding that answers nothing and is read by the router, then three models
STAGES = tuple(Stage(tier, 0, 0) for tier in range(4))
SKILL = np.array([0.55, 0.75, 0.9])  # the hardest text that a model still masters
MAX_TOKENS = 300
PRICES = Prices(
    (
        Price(),
        Price(0.15, 0.6, max_tokens=MAX_TOKENS),
        Price(1.0, 3.0, max_tokens=MAX_TOKENS),
        Price(2.5, 10.0, call=0.0001, max_tokens=MAX_TOKENS),
    ),
    tiers=4,
)


def models_table(rows: int, rng: np.random.Generator) -> OutcomeTable:
    """So many independent texts: the harder one is, the fewer models master it."""
    hard = rng.random(rows)
    spread = rng.beta(8.0, 2.0, (rows, 3))  # the score where a model masters the text
    masters = 1.0 / (1.0 + np.exp((hard[:, None] - SKILL) / 0.03))
    score = np.zeros((rows, 4))
    score[:, 1:] = spread * np.where(rng.random((rows, 3)) < masters, 1.0, 0.3)
    seen = hard[:, None] + rng.normal(0.0, 0.1, (rows, 3))  # what router and exits see of it
    sure = 1.0 / (1.0 + np.exp((seen - SKILL) / 0.1))
    nothing = np.zeros((rows, 1))
    tokens = rng.integers(20, 400, rows)
    written = rng.integers(10, MAX_TOKENS + 1, (rows, 4))
    written[:, 0] = 0
    usage = Usage(
        tokens_in=np.repeat(tokens[:, None], 4, 1),
        tokens_out=written,
        milliseconds=written * np.array([0.0, 2.0, 5.0, 9.0]) + 1.0,
    )
    return OutcomeTable(
        stages=STAGES,
        worth=graded(score),
        reliability=np.hstack([nothing, sure]).astype(np.float32),
        risk=np.hstack([nothing, 1.0 - sure]).astype(np.float32),
        tokens=tokens,
        usage=usage,
    )
