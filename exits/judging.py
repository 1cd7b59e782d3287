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


def graph_name(kind: str, first: bool) -> str:
    """Of `READS`; at the first stage there is nothing to compare with, and less to compute."""
    return f"first_{kind}" if first else kind


def judge_in_graph(
    reliability: Reliability,
    stage: int,
    read: Read,
    pooled: torch.Tensor,
    past: History | None,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
) -> tuple[torch.Tensor, History, torch.Tensor]:
    """What an exit makes of b texts, in float32 on a CPU.

    Args:
        stage: its number in the cascade.
        read: `logits` [b, c], or the weights of a head as `ExitHead.arrays` gives them.
        pooled: [b, h] what the head reads.
        past: of the tier's previous exit; None at its first, as at the first stage.
        anchor: [b, c] probabilities at the first stage, which all rows pass; None at that stage.
        log_length: [b].

    Returns:
        Probabilities [b, c], the history for the tier's next exit, reliability [b].
    """
    kind = next(kind for kind, names in READS.items() if names == tuple(read))
    classes = len(read["head.bias"]) if "head.bias" in read else read["logits"].shape[1]
    feed = {
        **read,
        **reliability.rows(stage),
        "log_length": log_length.numpy()[:, None],
        "share": _share(classes),
    }
    if stage:
        assert anchor is not None
        feed |= _before(pooled, past or History.start(len(pooled), "cpu"), anchor)
    elif kind != "logits":
        feed["pooled"] = pooled.numpy()
    found = _session(graph_name(kind, first=stage == 0)).run(OUTPUTS, feed)
    probabilities, prediction, streak, score = map(torch.from_numpy, found)
    later = History(prediction.squeeze(1), streak.squeeze(1), pooled)
    return probabilities, later, score.squeeze(1)


def _before(pooled: torch.Tensor, past: History, anchor: torch.Tensor) -> dict[str, Any]:
    """What earlier exits said, and the state of now that is compared with theirs."""
    here = pooled.numpy()
    return {
        "pooled": here,
        # the cosine with zeros is zero
        "previous": np.zeros_like(here) if past.pooled is None else past.pooled.numpy(),
        "prediction": past.prediction.numpy()[:, None],
        "streak": past.streak.numpy()[:, None],
        "anchor": anchor.numpy(),
    }


@cache
def _share(classes: int) -> NDArray[np.float32]:
    """What makes of an entropy a share of the greatest."""
    return np.array(-1.0 / math.log(classes), np.float32)


@cache
def _session(name: str) -> Any:
    """Opened once; one thread, since more would not pay on so little."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    file = GRAPHS / f"{name}.onnx"
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
