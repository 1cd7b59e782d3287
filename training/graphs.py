"""Writing a transformer's segments as ONNX graphs, for `adaptive.tiers.graphs` to run.

The nodes are those that ONNX Runtime is quickest at, some of them its own (`MatMulIntegerToFloat`,
`Gelu`), so that a layer is 24 calls. In int8 the inputs of every product are rounded in
steps that were measured once, on rows of text: nothing is looked for at run time, and what a token
comes to depends on no other. Before it is rounded, each number is divided by a factor of its
channel, by which the weights are multiplied, so that a few channels of great numbers do not decide
the steps of all (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438, equation 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.errors import BuildError, FamilyError
from adaptive.tiers import int8
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.fused import Layer, layer_of
from adaptive.tiers.graphs import INPUTS, WEIGHT_BITS, check_family, name_of
from adaptive.training.onnx_nodes import INT32, OWN, Nodes, Shape
from adaptive.types import TokenBatch

MOST_BYTES = 2**30  # of a graph; twice as many are more than a file of protobuf can hold
# Of a channel's factor: 0 leaves all to the weights, 1 all to the inputs.
SMOOTHING = 0.8

Array = NDArray[Any]
Ranges = Mapping[nn.Module, tuple[Array, Array]]  # least and greatest input of each channel, [in]


def write_graphs(
    backbone: Backbone,
    depths: Sequence[int],
    folder: Path,
    *,
    sample: Sequence[TokenBatch] | None = None,
) -> None:
    """Write a graph of each segment.

    Args:
        backbone: in float32 on the CPU.
        depths: layers before each exit, the last of them behind the last layer.
        sample: texts whose states decide the steps of int8; None = products in float32.

    Raises:
        BuildError: `onnx` is not installed.
        FamilyError: layers of this family, or with this activation, are not exported.
    """
    try:
        import onnx
    except ImportError as error:
        raise BuildError(
            f"export.tiers: {error.name} is not installed; pip install 'adaptive-cascade[onnx]'"
        ) from None
    check_exportable(backbone)
    layers = _plain_layers(backbone)
    activation = _ACTIVATIONS[_activation(backbone)]
    ranges = None if sample is None else measure_ranges(backbone, sample)
    folder.mkdir(parents=True, exist_ok=True)
    graph, begun, bytes_of_one = _Graph(), 0, 0
    for number, layer in enumerate(layers):
        before = graph.bytes
        graph.layer(layer, activation, ranges)
        bytes_of_one = max(bytes_of_one, graph.bytes - before)
        if number + 1 in depths or graph.bytes + bytes_of_one > MOST_BYTES:
            onnx.save(graph.segment(backbone.hidden), folder / name_of(begun, number + 1))
            graph, begun = _Graph(), number + 1


@torch.inference_mode()
def measure_ranges(backbone: Backbone, sample: Sequence[TokenBatch]) -> Ranges:
    """The least and the greatest number of each channel that the layers' products take."""
    found: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        x = given[0].flatten(0, -2)
        least, most = x.amin(0), x.amax(0)
        if module in found:
            least = torch.minimum(least, found[module][0])
            most = torch.maximum(most, found[module][1])
        found[module] = least, most

    linears = [each for each in backbone.blocks.modules() if isinstance(each, nn.Linear)]
    with ExitStack() as hooks:
        for each in linears:
            hooks.callback(each.register_forward_pre_hook(watch).remove)
        for batch in sample:
            backbone.run(backbone.embed(batch), 0, backbone.layers)
    return {each: (least.numpy(), most.numpy()) for each, (least, most) in found.items()}


def check_exportable(backbone: Backbone) -> None:
    """Raise FamilyError where its layers cannot be written as graphs."""
    check_family(backbone)
    name = _activation(backbone)
    if name not in _ACTIVATIONS:
        raise FamilyError(
            f"layers with the activation {name!r} are not exported to ONNX Runtime; those with "
            f"{', '.join(_ACTIVATIONS)} are. Leave the tier out of `export`"
        )


def _plain_layers(backbone: Backbone) -> list[Layer]:
    """The modules of each layer; FamilyError where a matrix is no plain one."""
    found = []
    for number, each in enumerate(backbone.blocks):
        layer = layer_of(backbone.family.name, each)
        if layer is None:
            raise FamilyError(
                f"layer {number} of the {backbone.family.name} holds other matrices than plain "
                "ones, such as adapters; merge them, or leave the tier out of `export`"
            )
        found.append(layer)
    return found


def _activation(backbone: Backbone) -> str:
    """Name of the function between the feed-forward matrices."""
    config = backbone.config
    return str(getattr(config, "hidden_act", None) or config.activation)


_ACTIVATIONS = {
    "gelu": ("Gelu", OWN),
    "gelu_new": ("FastGelu", OWN),
    "gelu_pytorch_tanh": ("FastGelu", OWN),
    "relu": ("Relu", ""),
}


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A product x @ weight + bias, [in, out] and [out], and the range of its x if in int8."""

    weight: Array
    bias: Array
    range: tuple[Array, Array] | None

    @classmethod
    def of(cls, linear: nn.Linear, ranges: Ranges | None) -> _Matrix:
        weight = linear.weight.detach().numpy().T
        return cls(weight, linear.bias.detach().numpy(), None if ranges is None else ranges[linear])

    def times(self, factor: Array) -> _Matrix:
        """With outputs [out] multiplied."""
        return _Matrix(self.weight * factor, self.bias * factor, self.range)


@dataclass(slots=True)
class _Graph(Nodes):
    """A graph that layers are added to, each behind the one before."""

    last: str = "hidden"  # what the next layer takes
    filled: str = ""  # what `mask` gave

    def layer(self, layer: Layer, activation: tuple[str, str], ranges: Ranges | None) -> None:
        """A transformer's layer, its norms behind the sums."""
        x, attention = self.last, layer.attention
        size = attention.attention_head_size
        query, key, value, attended = (
            _Matrix.of(each, ranges)
            for each in (layer.query, layer.key, layer.value, layer.attended)
        )
        if attended.range is not None:
            # what attention mixes comes from the values: their matrix can do the division
            factor = _factor(attended)
            value = value.times(1 / factor)
            attended = _divided(attended, factor)
        parts = self.products(x, query, key, value)
        heads = len(query.bias) // size
        mixed = self.attention(parts, heads, size, float(attention.scaling))
        (mixed,) = self.products(mixed, attended, divide=False)
        x = self.norm(mixed, x, layer.first_norm)
        rising, falling = (_Matrix.of(each, ranges) for each in (layer.rising, layer.falling))
        (risen,) = self.products(x, rising)
        kind, domain = activation
        (fallen,) = self.products(self.add(kind, risen, domain=domain), falling)
        self.last = self.norm(fallen, x, layer.last_norm)

    def attention(self, parts: Sequence[str], heads: int, size: int, scale: float) -> str:
        """Of queries, keys and values [t, heads x size], each row by itself: the same shape."""
        # ONNX Runtime takes rows that are filled up to the longest
        query, key, value = (self.add("Gather", each, "take", axis=0) for each in parts)
        mixed = self.add(
            "MultiHeadAttention",
            *(query, key, value, "", self.mask()),
            domain=OWN,
            num_heads=heads,
            scale=scale,
        )
        flat = self.add("Reshape", mixed, self.constant(np.array([-1, heads * size])))
        return self.add("Gather", flat, "back", axis=0)

    def mask(self) -> str:
        """Which places of filled up rows hold tokens, int32 [b, w]; the same for all layers."""
        if not self.filled:
            real = self.add("Not", self.add("IsInf", "bias"))
            numbers = self.add("Cast", real, to=INT32)
            self.filled = self.add("Reshape", numbers, self.add("Shape", "take"))
        return self.filled

    def norm(self, x: str, residual: str, norm: nn.LayerNorm) -> str:
        """The norm of a sum."""
        scale, shift = (self.constant(each.detach().numpy()) for each in (norm.weight, norm.bias))
        return self.add(
            "LayerNormalization", self.add("Add", x, residual), scale, shift, epsilon=norm.eps
        )

    def products(self, x: str, *matrices: _Matrix, divide: bool = True) -> list[str]:
        """Of the same x [t, in] with each matrix.

        Args:
            divide: x is to be divided by the factors of its channels first, in int8.
        """
        if matrices[0].range is None:
            return [
                self.add("Gemm", x, self.constant(each.weight), self.constant(each.bias))
                for each in matrices
            ]
        if divide:
            factor = _factor(*matrices)
            matrices = tuple(_divided(each, factor) for each in matrices)
            x = self.add("Mul", x, self.constant(1 / factor))
        step, zero = _steps(matrices[0])
        scale, middle = self.constant(step), self.constant(zero)
        x = self.add("QuantizeLinear", x, scale, middle)
        found = []
        for each in matrices:
            numbers, worth = int8.rounded(torch.from_numpy(each.weight.T), _top())
            weight = self.constant(np.ascontiguousarray(numbers.numpy().T))
            steps, bias = self.constant(worth.float().numpy()), self.constant(each.bias)
            found.append(
                self.add(
                    "MatMulIntegerToFloat", x, weight, scale, steps, middle, "", bias, domain=OWN
                )
            )
        return found

    def segment(self, hidden: int) -> Any:
        """The whole, as an ONNX model."""
        shapes: tuple[Shape, ...] = (["t", hidden], ["b", "w"], ["t"], ["b", 1, 1, "w"])
        kinds = (np.float32, np.int64, np.int64, np.float32)
        inputs = dict(zip(INPUTS, zip(kinds, shapes, strict=True), strict=True))
        in_int8 = any(array.dtype == np.int8 for array in self.arrays.values())
        properties = {WEIGHT_BITS: str(_top().bit_length() + 1)} if in_int8 else {}
        return self.model("layers", inputs, {"out": (self.last, np.float32, shapes[0])}, properties)


def _top() -> int:
    """The greatest weight of int8 graphs: of 8 bits where kernels here sum products exactly."""
    return 127 if int8.sums_exactly() else int(int8.TOP)


def _factor(*matrices: _Matrix) -> Array:
    """What each channel [in] of their inputs is divided by."""
    least, most = matrices[0].range  # type: ignore[misc]  # of the same inputs
    inputs = np.maximum(np.maximum(-least, most), _LEAST)
    weights = np.maximum(np.max([np.abs(each.weight).max(1) for each in matrices], 0), _LEAST)
    factor: Array = inputs**SMOOTHING / weights ** (1 - SMOOTHING)
    return factor.astype(np.float32)


_LEAST = 1e-5  # of a channel that is next to nothing throughout


def _divided(matrix: _Matrix, factor: Array) -> _Matrix:
    """The matrix for inputs that were divided."""
    least, most = matrix.range  # type: ignore[misc]
    return _Matrix(matrix.weight * factor[:, None], matrix.bias, (least / factor, most / factor))


def _steps(matrix: _Matrix) -> tuple[Array, Array]:
    """What one step of an input is worth, and the step that stands for zero."""
    least, most = matrix.range  # type: ignore[misc]
    low, high = min(float(least.min()), 0.0), max(float(most.max()), 0.0)
    step = max(high - low, int8.LEAST) / 255
    return np.array(step, np.float32), np.array(round(-low / step), np.uint8)
