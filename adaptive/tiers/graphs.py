"""Layers run by ONNX Runtime on a CPU, one exported graph each.

On few tokens most of torch's time is in its many small calls, and ONNX Runtime is two to three
times as fast; on many tokens the products decide, and the two are alike. The graphs are written
by `adaptive.training.graphs`, in float32 or with the whole numbers of `int8`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.errors import BundleError, FamilyError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.state import Packed, Padded, Step

FOLDER = "layers"  # in a tier's folder
INPUTS = ("hidden", "take", "back", "bias")
ALIKE = 0.84  # the shortest row of a block over its longest, about
LEAST = 256  # tokens of a block at least, where there are so many


class Graphs:
    """The layers of one tier, in place of torch's.

    Attributes:
        folder: where the graphs lie.
    """

    def __init__(self, folder: Path, layers: int) -> None:
        """Open every layer's graph, for as many threads as torch has now.

        Raises:
            BundleError: ONNX Runtime is not installed, or a graph is missing or damaged.
        """
        self.folder = folder
        self._sessions = [_open(folder / name_of(layer)) for layer in range(layers)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Graphs:
        """Itself: a session cannot be copied, and holds nothing that changes."""
        return self

    def prepare(self, body: Any, hidden: torch.Tensor, layout: Packed | Padded) -> Step:
        """A function that runs one layer on rows that lie like this, block by block."""
        ends = np.concatenate([[0], np.cumsum(layout.lengths)])
        calls = [
            (slice(ends[rows.start], ends[rows.stop]), places(layout.lengths[rows]))
            for rows in blocks(layout.lengths)
        ]

        def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
            tokens, run = states[0].numpy(), self._sessions[i].run
            done = [run(None, {"hidden": tokens[part], **where})[0] for part, where in calls]
            found = done[0] if len(done) == 1 else np.concatenate(done)
            return torch.from_numpy(found).unsqueeze(0)

        return step


def name_of(layer: int) -> str:
    """File of a layer's graph."""
    return f"{layer:02}.onnx"


def blocks(lengths: NDArray[np.int64]) -> list[slice]:
    """Consecutive rows [b] of like length, which one call of a graph takes.

    Inside attention a graph fills rows up to the longest. Of rows of 40 to 240 tokens, a layer of
    MiniLM takes a quarter less time in blocks; blocks of few tokens would gain nothing.
    """
    size = np.floor(np.log(np.maximum(lengths, 1)) / np.log(ALIKE))
    changes = np.flatnonzero(np.diff(size)) + 1
    found: list[slice] = []
    for start, stop in pairwise([0, *changes.tolist(), len(lengths)]):
        few = lengths[start:stop].sum() < LEAST
        if found and (few or lengths[found[-1]].sum() < LEAST):
            start = found.pop().start
        found.append(slice(start, stop))
    return found


def places(lengths: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """How attention finds its rows among t tokens that lie one behind the other.

    Returns:
        take: [b, w] token at each place of rows filled up to the longest.
        back: [t] place of each token.
        bias: [b, 1, 1, w] float32, added to the scores: minus infinity at fillers.
    """
    real = np.arange(lengths.max()) < lengths[:, None]
    take = np.zeros(real.shape, np.int64)
    take[real] = np.arange(lengths.sum())
    bias = np.where(real, np.float32(0), -np.float32(np.inf))
    return {"take": take, "back": np.flatnonzero(real), "bias": bias[:, None, None, :]}


def check_family(backbone: Backbone) -> None:
    """Raise FamilyError where layers take more than their row's tokens: these are not exported."""
    if not backbone.local:
        raise FamilyError(
            f"layers of the family {backbone.family.name!r} are not exported to ONNX Runtime; "
            "those of BERT, DistilBERT, RoBERTa and ELECTRA are. Leave the tier out of `export`"
        )
    if backbone.prefix:
        raise FamilyError(
            f"layers with a prefix, here of {backbone.prefix} tokens, are not exported to ONNX "
            "Runtime. Leave the tier out of `export`"
        )


def _open(file: Path) -> Any:
    """One session. Each has threads of its own.

    They sleep while other layers work: spinning, two threads were 1.4 to 5 times as slow as now.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BundleError(
            f"{FOLDER}/{file.name}: ONNX Runtime runs this tier and is not installed; "
            "pip install 'adaptive-cascade[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base of their own
        raise BundleError(f"{FOLDER}/{file.name}: is missing or no graph: {error}") from error
    if tuple(each.name for each in session.get_inputs()) != INPUTS:
        raise BundleError(f"{FOLDER}/{file.name}: is no graph of a layer")
    return session
