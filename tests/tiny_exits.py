"""Exits of made-up numbers, a reliability that judges them, and what torch makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adaptive.exits.judging import Read, judge_in_graph
from adaptive.exits.measures import FEATURES, History, measure
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


Judged = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def judged_by_torch(reliability: Reliability, stage: int, *seen: Any) -> Judged:
    """Probabilities, prediction, streak and reliability; `seen` as `an_exit` gives it."""
    logits, pooled, prediction, streak, previous, anchor, log_length = seen
    logits = reliability.temper(stage, logits)
    probabilities = logits.softmax(1)
    history = History(prediction, streak, previous)
    first = anchor if stage else probabilities
    features, later = measure(logits, pooled, history, first, log_length)
    return probabilities, later.prediction, later.streak, reliability(stage, features)


def judged_in_graph(
    reliability: Reliability, stage: int, *seen: Any, read: Read | None = None
) -> Judged:
    """The same by ONNX Runtime, from the logits or what is read in their place.

    Before the first stage there is no exit: there `seen` has to be a first exit's.
    """
    logits, pooled, prediction, streak, previous, anchor, log_length = seen
    read = {"logits": logits.numpy()} if read is None else read
    history = None if previous is None else History(prediction, streak, previous)
    given = (read, pooled, history, anchor if stage else None, log_length)
    probabilities, later, score = judge_in_graph(reliability, stage, *given)
    return probabilities, later.prediction, later.streak, score
