"""How sure an exit is of its answers, from what its head reads to its reliability in one call.

In torch these are some sixty small operations, which on a CPU take as long as a layer on a short
text, or two. Graphs of ONNX Runtime say the same in less than half of that; they are used where it
runs layers anyway. `adaptive.training.judging` writes them, into the package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.exits.heads import HIDDEN_HEAD, LINEAR_HEAD
from adaptive.exits.measures import History
from adaptive.exits.reliability import Reliability

GRAPHS = Path(__file__).with_name("graphs")
# What an exit reads, by the name of the graph that begins with it: what its own head made of that,
# or the weights of an `ExitHead`.
READS = {"logits": ("logits",), "linear": LINEAR_HEAD, "hidden": HIDDEN_HEAD}
FITTED = ("temperature", "mean", "scale", "weight", "bias")  # of the exit's reliability
OUTPUTS = ("probabilities", "prediction_", "streak_", "reliability")
Read = Mapping[str, NDArray[Any]]


def judge_in_graph(
    reliability: Reliability,
    stage: int,
    read: Read,
    pooled: torch.Tensor,
    past: History,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
) -> tuple[torch.Tensor, History, torch.Tensor]:
    """What an exit makes of b texts, in float32 on a CPU.

    Args:
        stage: its number in the cascade.
        read: `logits` [b, c], or the weights of a head as `ExitHead.arrays` gives them.
        pooled: [b, h] what the head reads.
        past: of the tier's previous exit.
        anchor: [b, c] probabilities at the first stage; may be None at the first stage itself.
        log_length: [b].

    Returns:
        Probabilities [b, c], the history for the tier's next exit, reliability [b].
    """
    kind = next(kind for kind, names in READS.items() if names == tuple(read))
    classes = len(read["head.bias"]) if "head.bias" in read else read["logits"].shape[1]
    feed = {
        **read,
        **reliability.rows(stage),
        "pooled": pooled.numpy(),
        "prediction": past.prediction.numpy()[:, None],
        "streak": past.streak.numpy()[:, None],
        "log_length": log_length.numpy()[:, None],
        **_numbers(stage == 0, classes),
    }
    # the cosine with zeros is zero
    feed["previous"] = np.zeros_like(feed["pooled"]) if past.pooled is None else past.pooled.numpy()
    # the first stage is its own
    feed["anchor"] = (
        np.zeros((len(pooled), classes), np.float32) if anchor is None else anchor.numpy()
    )
    found = _session(kind).run(OUTPUTS, feed)
    probabilities, prediction, streak, score = map(torch.from_numpy, found)
    later = History(prediction.squeeze(1), streak.squeeze(1), pooled)
    return probabilities, later, score.squeeze(1)


@cache
def _numbers(first: bool, classes: int) -> dict[str, NDArray[Any]]:
    """Whether it is the first stage, and what makes of an entropy a share of the greatest."""
    return {"first": np.array(first), "share": np.array(-1.0 / math.log(classes), np.float32)}


@cache
def _session(kind: str) -> Any:
    """Opened once; one thread, since more would not pay on so little."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    file = GRAPHS / f"{kind}.onnx"
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
