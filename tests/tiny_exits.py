"""Exits of made-up numbers, and a reliability that judges them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability


def fitted(stages: int, seed: int = 0) -> Reliability:
    """Every stage with numbers of its own."""
    rng, reliability = np.random.default_rng(seed), Reliability(stages)
    width = len(FEATURES)
    for stage in range(stages):
        mean, weight = rng.normal(size=width), rng.normal(size=width)
        reliability.set_fit(stage, (mean, rng.uniform(0.5, 2, width), weight, rng.normal()))
        reliability.set_temperature(stage, rng.uniform(0.5, 2))
    return reliability


def an_exit(b: int, c: int, h: int, *, first: bool, size: float, seed: int) -> list[Any]:
    """Logits, pooled, prediction, streak, previous, anchor and length of b texts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    prediction = torch.full((b,), -1) if first else draw(b, c).argmax(1)
    streak = torch.zeros(b) if first else draw(b).abs().round()
    previous = None if first else draw(b, h)
    return [
        draw(b, c) * size,
        draw(b, h),
        prediction,
        streak,
        previous,
        draw(b, c).softmax(1),
        draw(b).abs(),
    ]
