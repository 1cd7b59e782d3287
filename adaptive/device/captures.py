"""CUDA graphs: work that a GPU is given again and again, captured once and launched in one go.

Few tokens keep a GPU busy for a shorter time than the host needs to launch what is to be done with
them: some fifteen kernels a layer. A graph has fixed sizes, so tensors are filled up to a few of
them (`size_of`). The places that are too many hold values of earlier calls, so no row of what is
captured may depend on another's.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Tensors]
Read = TypeVar("Read")
MOST = 256  # graphs of one tier; those not used for longest are dropped
TOLERANCE = 0.05  # of what a graph gives, relative to what it was captured from
_capturing = threading.Lock()  # a capture waits for the whole GPU, which would end another one


def size_of(count: int) -> int:
    """The size that `count` rows are filled up to: four to each doubling, eight beyond 1,024.

    Few kernels get faster by a few rows less; beyond that what is too much costs time.
    """
    step = max(16, (1 << max(count - 1, 1).bit_length()) // (8 if count <= 1024 else 16))
    return -(-count // step) * step


def wanted(device: torch.device) -> bool:
    """Whether calls on a device are captured: on a GPU, and where nobody asks for gradients."""
    return device.type == "cuda" and torch.is_inference_mode_enabled()


def by_kernel(values: torch.Tensor) -> bool:
    """Whether the project's own Triton kernels take such values; they know no gradients."""
    return values.is_cuda and torch.is_inference_mode_enabled() and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class _Graph:
    """A captured call: what it reads, what it writes, and how it is launched."""

    inputs: list[torch.Tensor]
    outputs: Tensors
    replay: Callable[[], Any]


class Captures:
    """The graphs of one tier. They share inputs and memory, so one runs at a time.

    Sizes that are met for the first time run as they are, since they may never come again; the
    second time they are captured. A capture that fails, or whose graph gives other values than
    the same kernels launched one by one, ends captures for this tier, with a warning.

    Attributes:
        off: nothing is captured or launched as a graph; functions run as they are.
    """

    def __init__(self) -> None:
        self.off = False
        self._met: set[Hashable] = set()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._held: dict[Hashable, torch.Tensor] = {}  # inputs, the largest so far of each kind
        self._pool: Any = None
        self._stream: Any = None  # of the last use of inputs and outputs
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Captures:
        """A copied tier has other weights, and captures anew."""
        return Captures()

    def __call__(
        self,
        name: Hashable,
        device: torch.device,
        function: Function,
        inputs: Mapping[str, torch.Tensor],
        sizes: Sequence[int],
        counts: Sequence[int],
        read: Callable[[Tensors], Read],
    ) -> Read | None:
        """What is read of a function's graph; None where there is none, and none can be made.

        Args:
            name: tells functions apart, and all that they depend on beside their inputs.
            device: the GPU.
            function: is captured on inputs that are filled up.
            inputs: [n, ...] each, on the GPU or in pinned memory, in the order in which
                `function` takes them. What fills them up are earlier values of the same name.
            sizes: to how many rows each of them is filled up.
            counts: how many rows of each output are those of the inputs.
            read: takes these rows, and must launch whatever copies them: the next launch writes
                over them.
        """
        key = (name, *inputs, *sizes)
        with self._lock:
            if self.off:
                return None
            if key in self._graphs:
                self._graphs.move_to_end(key)
                return self._run(self._graphs[key], inputs, counts, read)
            if key in self._met:
                try:
                    return self._first(key, device, function, inputs, sizes, counts, read)
                except RuntimeError as error:
                    self._give_up(error)
            self._met.add(key)
        return None

    def _first(
        self,
        key: Hashable,
        device: torch.device,
        function: Function,
        inputs: Mapping[str, torch.Tensor],
        sizes: Sequence[int],
        counts: Sequence[int],
        read: Callable[[Tensors], Read],
    ) -> Read:
        """Capture, and compare with the very kernels uncaptured.

        Raises:
            RuntimeError: it cannot be captured, or gives other values.
        """
        held = [
            self._hold(name, like, size, device)
            for (name, like), size in zip(inputs.items(), sizes, strict=True)
        ]
        self._fill(held, inputs.values())
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle() if held[0].is_cuda else ()
        with _capturing:
            graph, expected = capture(function, held, self._pool)
        found = self._run(graph, inputs, counts, _cloned)
        expected = tuple(other[:count] for other, count in zip(expected, counts, strict=True))
        if not all(map(_alike, found, expected)):
            raise RuntimeError("a graph gives other values than what it was captured from")
        self._graphs[key] = graph
        if len(self._graphs) > MOST:
            self._graphs.popitem(last=False)
        return self._run(graph, inputs, counts, read)

    def _give_up(self, error: RuntimeError) -> None:
        self.off = True
        self._graphs.clear()
        self._held.clear()
        warnings.warn(
            f"going on without CUDA graphs, which is slower on few tokens: {error}",
            RuntimeWarning,
            stacklevel=3,
        )

    def _hold(self, name: str, like: torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
        """Memory [size, ...] that graphs read an input from; graphs keep what they were given."""
        kind = (name, like.shape[1:], like.dtype)
        if kind not in self._held or len(self._held[kind]) < size:
            self._held[kind] = torch.zeros(size, *like.shape[1:], dtype=like.dtype, device=device)
        return self._held[kind][:size]

    def _run(
        self,
        graph: _Graph,
        inputs: Mapping[str, torch.Tensor],
        counts: Sequence[int],
        read: Callable[[Tensors], Read],
    ) -> Read:
        """Launch a graph on the inputs."""
        stream = torch.cuda.current_stream() if graph.inputs[0].is_cuda else None
        if stream is not None and self._stream not in (None, stream):
            stream.wait_event(self._stream.record_event())  # the last use was another stream's
        self._stream = stream
        self._fill(graph.inputs, inputs.values())
        graph.replay()
        outputs = zip(graph.outputs, counts, strict=True)
        return read(tuple(output[:count] for output, count in outputs))

    @staticmethod
    def _fill(held: Sequence[torch.Tensor], inputs: Iterable[torch.Tensor]) -> None:
        for place, values in zip(held, inputs, strict=True):
            count = values.shape[0]
            there = place if place.shape[0] == count else place[:count]
            there.copy_(values, non_blocking=True)


def capture(function: Function, inputs: list[torch.Tensor], pool: Any) -> tuple[_Graph, Tensors]:
    """A CUDA graph of a function of tensors in fixed places, in a pool of memory shared by many.

    Also what the function gives of these inputs uncaptured.
    """
    here = torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(here)
    with torch.cuda.stream(side):  # libraries set themselves up outside of a capture
        expected = function(*inputs)
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # thread_local: what other threads do with the GPU meanwhile is no part of it
    with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return _Graph(inputs, outputs, graph.replay), expected


def _cloned(outputs: Tensors) -> Tensors:
    return tuple(output.clone() for output in outputs)


def _alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether values differ by no more than rounding; where they are not numbers they are not."""
    one, other = found.float(), expected.float()
    return bool((one - other).norm() <= TOLERANCE * other.norm() + 1e-6)
