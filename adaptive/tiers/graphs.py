"""Layers run by ONNX Runtime on a CPU: a graph of each segment, from one exit to the next.

On few tokens most of torch's time is in its many small calls, and ONNX Runtime is two to three
times as fast; on many tokens the products decide, and in float32 the two are alike. The graphs are
written by `adaptive.training.graphs`, in float32 or int8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.threads import one_thread
from adaptive.errors import BundleError, FamilyError
from adaptive.tiers import int8
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.sessions import open_session, side_by_side
from adaptive.tiers.state import Packed, Padded, Run

if TYPE_CHECKING:
    from adaptive.tiers.tier import Tier

FOLDER = "layers"  # in a tier's folder
INPUTS = ("hidden", "take", "back", "bias")
WEIGHT_BITS = "weight_bits"  # of int8 graphs, in their metadata
MOST = 256  # tokens of a block, about
SHARED = 150_000_000  # tokens x bytes of a layer from which on several threads share a product


class Graphs:
    """The layers of one tier, in place of torch's.

    Attributes:
        folder: where the graphs lie.
        stops: layer that a graph begins with -> the one that it ends before.
    """

    def __init__(self, folder: Path, layers: int) -> None:
        """Open every segment's graph, to be run on as many threads as torch has now.

        The files' names tell the segments. Bundles of format 1, and folders of builds that were
        begun when those were written, have a graph of each layer.

        Raises:
            BundleError: ONNX Runtime is not installed, or a graph is missing or damaged.
        """
        self.folder = folder
        self._files = _segments(folder, layers)
        self.stops = {start: stop for start, stop, _ in self._files}
        self._threads = torch.get_num_threads()
        self._bytes = sum(file.stat().st_size for *_, file in self._files) // layers
        self._sessions = {start: _open(file, 1) for start, _, file in self._files}

    @cached_property
    def _shared(self) -> dict[int, Any]:
        """Sessions of which a product runs on all threads; opened when first needed, since they
        hold the weights once more.
        """
        return {start: _open(file, self._threads) for start, _, file in self._files}

    def __deepcopy__(self, memo: dict[int, Any]) -> Graphs:
        """Itself: a session cannot be copied, and holds nothing that changes."""
        return self

    def prepare(self, layout: Packed | Padded) -> Run:
        """A function that runs layers on rows that lie like this.

        Each thread runs blocks of its own. Where there are fewer rows than threads and a layer is
        much work, all threads share each product instead.
        """
        lengths = layout.lengths
        found, sessions_of = blocks(lengths, self._threads), self._sessions
        if len(found) < self._threads and int(lengths.sum()) * self._bytes >= SHARED:
            found, sessions_of = [slice(0, len(lengths))], self._shared
        ends = np.concatenate([[0], np.cumsum(lengths)])
        calls = [
            (slice(ends[rows.start], ends[rows.stop]), places(lengths[rows])) for rows in found
        ]

        def run(start: int, stop: int, states: torch.Tensor) -> torch.Tensor:
            sessions = [sessions_of[each] for each in self._between(start, stop)]
            tokens = states[0].numpy()

            def through(call: tuple[slice, dict[str, NDArray[Any]]]) -> NDArray[np.float32]:
                part, where = call
                block = tokens[part]
                for session in sessions:
                    (block,) = session.run(None, {"hidden": block, **where})
                return block

            done = side_by_side(through, calls, self._threads)
            whole = done[0] if len(done) == 1 else np.concatenate(done)
            return torch.from_numpy(whole).unsqueeze(0)

        return run

    def _between(self, start: int, stop: int) -> list[int]:
        """Where the segments of layers `start` to `stop` begin.

        Raises:
            ValueError: a segment does not begin or end there.
        """
        found, layer = list[int](), start
        while layer < stop and layer in self.stops:
            found.append(layer)
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


def blocks(lengths: NDArray[np.int64], threads: int = 1) -> list[slice]:
    """Consecutive rows [b], of about `MOST` tokens together, which one call of a graph takes.

    What a layer makes of so many tokens fits the cache between its nodes: 128 short texts at once
    took MiniLM in int8 a fifth longer. Rows of a batch lie by length, and inside attention a graph
    fills them up to the longest of the block.

    Args:
        threads: there are as many blocks as keep them all busy, where there are enough rows.
    """
    ends = np.cumsum(lengths)
    parts = -(-int(ends[-1]) // MOST)
    parts += -parts % threads
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


def torch_threads(tiers: Iterable[Tier]) -> Callable[[], AbstractContextManager[None]]:
    """How torch computes on these tiers: with one thread where graphs run all layers, else as set.

    Then torch is left with small calls. Its other threads would wait for the next one in a loop,
    on the cores that graphs need: with two cores, batches of 128 took a fifth longer.
    """
    layered = [tier for tier in tiers if tier.backbone.layers]
    return one_thread if layered and all(tier.in_graphs for tier in layered) else nullcontext


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


def _open(file: Path, threads: int) -> Any:
    """The session of a segment's graph."""
    told = f"{FOLDER}/{file.name}"
    session = open_session(file, told, threads)
    if tuple(each.name for each in session.get_inputs()) != INPUTS:
        raise BundleError(f"{told}: is no graph of layers")
    bits = session.get_modelmeta().custom_metadata_map.get(WEIGHT_BITS)
    if bits == "8" and not int8.sums_exactly():
        return open_session(file, told, threads, exact=True)
    return session
