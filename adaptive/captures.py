"""CUDA graphs: work that a GPU is given again and again, captured once and launched in one go.

Few tokens keep a GPU busy for a shorter time than the host needs to launch what is to be done with
them: some fifteen kernels a layer, and forty an exit. A graph has fixed sizes, so tensors are
filled up to a few of them (`size_of`). What stands in the places too many is left over from
earlier calls and nobody's, so no row of what is captured may depend on another's.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Tensors]
MOST = 256  # graphs of one tier; those not used for longest are dropped
TOLERANCE = 0.05  # of what a graph gives, relative to what it was captured from
_capturing = threading.Lock()  # a capture waits for the whole GPU, which would end another one


def size_of(count: int) -> int:
    """The size that `count` rows are filled up to: 16, 32, 48, 64, then four to each doubling."""
    step = max(16, (1 << max(count - 1, 1).bit_length()) // 8)
    return -(-count // step) * step


def wanted(device: torch.device) -> bool:
    """Whether calls on a device are captured: on a GPU, and where nobody asks for gradients."""
    return device.type == "cuda" and torch.is_inference_mode_enabled()


@dataclass(frozen=True, slots=True)
class _Graph:
    """A captured call: what it reads, what it writes, and how it is launched."""

    inputs: list[torch.Tensor]
    outputs: Tensors
    replay: Callable[[], Any]


class Captures:
    """The graphs of one tier. They share inputs and memory, so one runs at a time.

    Sizes that are met for the first time run as they are, since they may never come again; the
    second time they are captured. A capture that fails, or whose graph gives other values,
    ends captures for this tier, with a warning.

    Attributes:
        off: nothing is captured or launched as a graph; functions run as they are.
    """

    def __init__(self) -> None:
        self.off = False
        self._met: set[Hashable] = set()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._held: dict[Hashable, torch.Tensor] = {}  # inputs, the largest so far of each kind
        self._pool: Any = None
        self._done: Any = None  # event behind the last use of inputs and outputs
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Captures:
        """A copied tier has other weights, and captures anew."""
        return Captures()

    def __call__(
        self,
        name: Hashable,
        plain: Callable[[], Tensors],
        function: Function,
        inputs: Sequence[torch.Tensor],
        sizes: Sequence[int],
    ) -> Tensors:
        """What `plain` gives, by a graph of `function` where there is one.

        Args:
            name: tells functions apart, and all that they depend on beside their inputs.
            plain: computes the same as `function` of the inputs.
            function: is captured on inputs that are filled up.
            inputs: [n, ...] each, on the GPU.
            sizes: to how many rows each of them is filled up.

        Returns:
            Tensors of as many rows as the first input has.
        """
        key = (name, *sizes)
        with self._lock:
            if not self.off and key in self._graphs:
                self._graphs.move_to_end(key)
                return self._run(self._graphs[key], inputs)
            if not self.off and key in self._met:
                return self._first(key, plain, function, inputs, sizes)
            self._met.add(key)
        return plain()

    def _first(
        self,
        key: Hashable,
        plain: Callable[[], Tensors],
        function: Function,
        inputs: Sequence[torch.Tensor],
        sizes: Sequence[int],
    ) -> Tensors:
        """Capture, and compare with what is computed uncaptured, which is the answer."""
        expected = plain()
        try:
            held = list(map(self._hold, range(len(sizes)), inputs, sizes))
            self._fill(held, inputs)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle() if inputs[0].is_cuda else ()
            with _capturing:
                graph = capture(function, held, self._pool)
            found = self._run(graph, inputs)
            if not all(map(_alike, found, expected)):
                raise RuntimeError("a graph gives other values than what it was captured from")
        except RuntimeError as error:
            self.off = True
            self._graphs.clear()
            self._held.clear()
            warnings.warn(
                f"going on without CUDA graphs, which is slower on few tokens: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return expected
        self._graphs[key] = graph
        if len(self._graphs) > MOST:
            self._graphs.popitem(last=False)
        return expected

    def _hold(self, place: int, like: torch.Tensor, size: int) -> torch.Tensor:
        """Memory [size, ...] that graphs read an input from; graphs keep what they were given."""
        kind = (place, like.shape[1:], like.dtype)
        if kind not in self._held or len(self._held[kind]) < size:
            self._held[kind] = like.new_zeros(size, *like.shape[1:])
        return self._held[kind][:size]

    def _run(self, graph: _Graph, inputs: Sequence[torch.Tensor]) -> Tensors:
        """Launch a graph on the inputs; its outputs are copied, since other graphs write there."""
        stream = torch.cuda.current_stream() if inputs[0].is_cuda else None
        if stream is not None and self._done is not None:
            stream.wait_event(self._done)  # the last use may be another stream's
        self._fill(graph.inputs, inputs)
        graph.replay()
        found = tuple(output[: len(inputs[0])].clone() for output in graph.outputs)
        if stream is not None:
            self._done = stream.record_event()
        return found

    @staticmethod
    def _fill(held: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> None:
        for place, values in zip(held, inputs, strict=True):
            place[: len(values)].copy_(values)


def capture(function: Function, inputs: list[torch.Tensor], pool: Any) -> _Graph:
    """A CUDA graph of a function of tensors in fixed places, in a pool of memory shared by many."""
    here = torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(here)
    with torch.cuda.stream(side):  # libraries set themselves up outside of a capture
        function(*inputs)
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # thread_local: what other threads do with the GPU meanwhile is no part of it
    with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return _Graph(inputs, outputs, graph.replay)


def _alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether values differ by no more than rounding; where they are not numbers they are not."""
    one, other = found.float(), expected.float()
    return bool((one - other).norm() <= TOLERANCE * other.norm() + 1e-6)
