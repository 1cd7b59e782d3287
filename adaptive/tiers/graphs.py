"""Layers run by ONNX Runtime on a CPU: a graph of each segment, from one exit to the next.

On few tokens most of torch's time is in its many small calls, and ONNX Runtime is two to three
times as fast; on many tokens the products decide, and in float32 the two are alike. The graphs are
written by `adaptive.training.graphs`, in float32 or int8.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.errors import BundleError, FamilyError
from adaptive.tiers import int8
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.sessions import open_session
from adaptive.tiers.state import Packed, Padded, Run

FOLDER = "layers"  # in a tier's folder
INPUTS = ("hidden", "take", "back", "bias")
WEIGHT_BITS = "weight_bits"  # of int8 graphs, in their metadata
MOST = 256  # tokens of a block, about


class Graphs:
    """The layers of one tier, in place of torch's.

    Attributes:
        folder: where the graphs lie.
        stops: layer that a graph begins with -> the one that it ends before.
    """

    def __init__(self, folder: Path, layers: int) -> None:
        """Open every segment's graph, on as many threads as torch has now.

        The files' names tell the segments. Bundles of format 1, and folders of builds that were
        begun when those were written, have a graph of each layer.

        Raises:
            BundleError: ONNX Runtime is not installed, or a graph is missing or damaged.
        """
        self.folder = folder
        files = _segments(folder, layers)
        self.stops = {start: stop for start, stop, _ in files}
        self._sessions = {start: _open(file) for start, _, file in files}

    def __deepcopy__(self, memo: dict[int, Any]) -> Graphs:
        """Itself: a session cannot be copied, and holds nothing that changes."""
        return self

    def prepare(self, layout: Packed | Padded) -> Run:
        """A function that runs layers on rows that lie like this, block by block."""
        ends = np.concatenate([[0], np.cumsum(layout.lengths)])
        calls = [
            (slice(ends[rows.start], ends[rows.stop]), places(layout.lengths[rows]))
            for rows in blocks(layout.lengths)
        ]

        def run(start: int, stop: int, states: torch.Tensor) -> torch.Tensor:
            sessions = self._between(start, stop)
            tokens = states[0].numpy()
            done = []
            for part, where in calls:
                block = tokens[part]
                for session in sessions:
                    (block,) = session.run(None, {"hidden": block, **where})
                done.append(block)
            found = done[0] if len(done) == 1 else np.concatenate(done)
            return torch.from_numpy(found).unsqueeze(0)

        return run

    def _between(self, start: int, stop: int) -> list[Any]:
        """The sessions of layers `start` to `stop`.

        Raises:
            ValueError: a segment does not begin or end there.
        """
        found, layer = [], start
        while layer < stop and layer in self.stops:
            found.append(self._sessions[layer])
            layer = self.stops[layer]
        if layer != stop:
            raise ValueError(f"layers {start} to {stop} are no segments of {self.folder.name}")
        return found


def name_of(start: int, stop: int) -> str:
    """File of the graph of layers `start` to `stop`, the latter excluded."""
    return f"{start:02}-{stop:02}.onnx"


def _segments(folder: Path, layers: int) -> list[tuple[int, int, Path]]:
    """Where segments begin and end, by their files: `00-02.onnx`, or of one layer `00.onnx`.

    Raises:
        BundleError: they leave out a layer.
    """
    there: dict[int, tuple[int, Path]] = {}
    for file in folder.glob("*.onnx"):
        begin, _, end = file.stem.partition("-")
        if begin.isdecimal() and (end.isdecimal() or not end):
            there[int(begin)] = (int(end) if end else int(begin) + 1, file)
    found, layer = list[tuple[int, int, Path]](), 0
    while layer < layers:
        stop, file = there.get(layer, (0, folder))
        if not layer < stop <= layers:
            name = f"{FOLDER}/{layer:02}*.onnx"
            raise BundleError(f"{name}: is missing; graphs of all {layers} layers are expected")
        found.append((layer, stop, file))
        layer = stop
    return found


def blocks(lengths: NDArray[np.int64]) -> list[slice]:
    """Consecutive rows [b], of about `MOST` tokens together, which one call of a graph takes.

    What a layer makes of so many tokens fits the cache between its nodes: 128 short texts at once
    took MiniLM in int8 a fifth longer. Rows of a batch lie by length, and inside attention a graph
    fills them up to the longest of the block.
    """
    ends = np.cumsum(lengths)
    parts = -(-int(ends[-1]) // MOST)
    marks = ends[-1] * np.arange(1, parts) / parts
    cuts = np.unique([0, *np.searchsorted(ends, marks, side="right"), len(lengths)])
    return [slice(int(start), int(stop)) for start, stop in pairwise(cuts)]


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
    """The session of a segment's graph."""
    told = f"{FOLDER}/{file.name}"
    session = open_session(file, told)
    if tuple(each.name for each in session.get_inputs()) != INPUTS:
        raise BundleError(f"{told}: is no graph of layers")
    bits = session.get_modelmeta().custom_metadata_map.get(WEIGHT_BITS)
    if bits == "8" and not int8.sums_exactly():
        return open_session(file, told, exact=True)
    return session
