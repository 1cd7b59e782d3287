"""How sure an exit is of its answers, from its logits to its reliability in one call.

In torch these are some fifty small operations, which on a CPU take as long as a layer on a short
text. `judge.onnx` is the same function, written by `adaptive.training.judging` from the code here,
and ONNX Runtime needs about two thirds of that. It is used where ONNX Runtime runs layers anyway.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive.exits.measures import History, measure
from adaptive.exits.reliability import Reliability

GRAPH = Path(__file__).with_name("judge.onnx")
INPUTS = ("stage", "logits", "pooled", "prediction", "streak", "previous", "anchor", "log_length")
OUTPUTS = ("probabilities", "prediction_", "streak_", "reliability")
Judged = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def judge(
    reliability: Reliability,
    stage: int | torch.Tensor,
    logits: torch.Tensor,
    pooled: torch.Tensor,
    prediction: torch.Tensor,
    streak: torch.Tensor,
    previous: torch.Tensor | None,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
) -> Judged:
    """What an exit makes of b texts.

    Args:
        stage: its number in the cascade; a tensor [] where a graph is written.
        logits: [b, c] as the head gives them.
        pooled: [b, h] what it read.
        prediction, streak, previous: the `History` of the tier's previous exit.
        anchor: [b, c] probabilities at the first stage; not read, and may be None, at the first
            stage itself.
        log_length: [b].

    Returns:
        probabilities [b, c], prediction and streak [b] for the next exit, reliability [b].
    """
    logits = reliability.temper(stage, logits)
    probabilities = logits.softmax(1)
    if isinstance(stage, torch.Tensor):
        assert anchor is not None
        anchor = torch.where(stage == 0, probabilities, anchor)
    elif stage == 0:
        anchor = probabilities
    history = History(prediction, streak, previous)
    features, later = measure(logits, pooled, history, anchor, log_length)
    return probabilities, later.prediction, later.streak, reliability(stage, features)


def judge_in_graph(reliability: Reliability, stage: int, *given: torch.Tensor | None) -> Judged:
    """The same by ONNX Runtime, of float32 on a CPU; `given` as `judge` takes them."""
    named = zip(INPUTS[1:], given, strict=True)
    feed = {name: each.numpy() for name, each in named if each is not None}
    if "previous" not in feed:  # the cosine with zeros is zero
        feed["previous"] = np.zeros_like(feed["pooled"])
    if "anchor" not in feed:  # the first stage is its own
        feed["anchor"] = np.zeros_like(feed["logits"])
    feed |= reliability.arrays()
    feed["stage"] = _number(stage)
    probabilities, later, run, score = map(torch.from_numpy, _session().run(OUTPUTS, feed))
    return probabilities, later, run, score


@cache
def _number(stage: int) -> Any:
    return torch.tensor(stage).numpy()


@cache
def _session() -> Any:
    """Opened once; one thread, since more would not pay on so little."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
