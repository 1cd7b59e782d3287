"""Writing a transformer's segments as ONNX graphs, for `adaptive.tiers.graphs` to run."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.modeling_utils import AttentionInterface

from adaptive.errors import BuildError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.calls import first
from adaptive.tiers.graphs import INPUTS, check_family, name_of
from adaptive.tiers.int8 import LEAST, STEPS, ZERO, rounded
from adaptive.tiers.surgery import sizes_of

ATTENTION = "adaptive_exported"
OPSET = 18
MOST_BYTES = 2**30  # of a graph; twice as many are more than a file of protobuf can hold


def write_graphs(backbone: Backbone, depths: Sequence[int], folder: Path, *, int8: bool) -> None:
    """Write a graph of each segment, of float32 or int8 products.

    Args:
        backbone: in float32 on the CPU; its attention is another afterwards.
        depths: layers before each exit, the last of them behind the last layer.

    Raises:
        BuildError: `onnx` or `onnxscript` is not installed.
        FamilyError: layers of this family are not exported.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise BuildError(
            f"export.tiers: {error.name} is not installed; pip install 'adaptive-cascade[onnx]'"
        ) from None
    check_family(backbone)
    folder.mkdir(parents=True, exist_ok=True)
    backbone.config._attn_implementation = ATTENTION
    heads = sizes_of(backbone).heads
    templates: dict[Any, _Template] = {}  # exporting takes seconds; layers of like sizes share one
    begun: list[Any] = []  # graphs of the layers since the last segment
    for number, layer in enumerate(backbone.blocks):
        sizes = (heads[number], *(each.shape for each in layer.parameters()))
        if sizes not in templates:
            templates[sizes] = _Template.of(layer, backbone.hidden)
        begun.append(_graph(templates[sizes], layer, int8=int8))
        large = sum(each.ByteSize() for each in begun) + begun[-1].ByteSize() > MOST_BYTES
        if number + 1 in depths or large:
            start = number + 1 - len(begun)
            onnx.save(_chained(begun), folder / name_of(start, number + 1))
            begun.clear()


@dataclass(frozen=True, slots=True)
class _Places:
    """What a layer is handed as its mask while it is exported, see `graphs.places`."""

    take: torch.Tensor
    back: torch.Tensor
    bias: torch.Tensor


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: _Places,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over rows [1, heads, t, d] that lie one behind the other, in plain operations."""
    rows, width = attention_mask.take.shape
    heads, size = query.shape[1], query.shape[3]
    take = attention_mask.take.flatten()
    query, key, value = (
        x.transpose(1, 2).flatten(2)[0].index_select(0, take).view(rows, width, heads, size)
        for x in (query, key, value)
    )
    scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1)
    scores = scores * (size**-0.5 if scaling is None else scaling) + attention_mask.bias
    out = (scores.softmax(-1) @ value.transpose(1, 2)).transpose(1, 2)
    out = out.reshape(rows * width, heads * size).index_select(0, attention_mask.back)
    return out.view(1, -1, heads, size), None


AttentionInterface.register(ATTENTION, _attend)


class _Layer(nn.Module):
    """A layer as a function of tensors: hidden states [t, h] and places to hidden states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden: torch.Tensor, take: torch.Tensor, back: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        return first(self.layer(hidden.unsqueeze(0), _Places(take, back, bias))).squeeze(0)


@dataclass(frozen=True, slots=True)
class _Template:
    """A graph without the weights of any one layer."""

    model: Any  # onnx.ModelProto
    constants: dict[str, NDArray[Any]]
    weights: dict[str, tuple[str, bool]]  # of the graph -> parameter of the layer, transposed

    @classmethod
    def of(cls, layer: nn.Module, hidden: int) -> _Template:
        """From a copy with other weights, all unlike: the exporter makes equal ones into one."""
        from onnx import numpy_helper

        layer = copy.deepcopy(layer).eval()
        for each in layer.parameters():
            nn.init.normal_(each)
        model = _exported(layer, hidden)
        arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        own = {name: each.detach().numpy() for name, each in layer.named_parameters()}
        weights = {
            name: (of, flipped)
            for of, weight in own.items()
            for flipped in (False, True)
            for name, array in arrays.items()
            if np.array_equal(array, weight.T if flipped else weight)
        }
        lost = own.keys() - {of for of, _ in weights.values()}
        if lost:
            raise BuildError(f"export.tiers: torch's exporter changed {', '.join(sorted(lost))}")
        constants = {name: array for name, array in arrays.items() if name not in weights}
        return cls(model, constants, weights)

    def arrays(self, layer: nn.Module) -> dict[str, NDArray[Any]]:
        """What the graph's constants are for a layer."""
        own = {name: each.detach().numpy() for name, each in layer.named_parameters()}
        filled = {name: own[of].T if flip else own[of] for name, (of, flip) in self.weights.items()}
        return self.constants | filled


def _exported(layer: nn.Module, hidden: int) -> Any:
    """The layer as an ONNX model, for any number of tokens and rows."""
    tokens, rows, width = (torch.export.Dim(name, min=2) for name in ("t", "b", "w"))
    whole = torch.long
    example = (
        torch.zeros(12, hidden),
        torch.zeros(3, 5, dtype=whole),
        torch.zeros(12, dtype=whole),
        torch.zeros(3, 1, 1, 5),
    )
    with quiet_exporter():
        program = torch.onnx.export(
            _Layer(layer),
            example,
            input_names=INPUTS,
            output_names=("out",),
            dynamic_shapes=({0: tokens}, {0: rows, 1: width}, {0: tokens}, {0: rows, 3: width}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return plain(program.model_proto)


def plain(model: Any) -> Any:
    """A model without what the exporter notes of itself, such as where this file lies."""
    graph = model.graph
    parts = (graph.input, graph.output, graph.node, graph.value_info, graph.initializer)
    for each in (model, graph, *chain(*parts)):
        del each.metadata_props[:]
        each.doc_string = ""
    return model


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Nothing of what torch's exporter has to say about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _graph(template: _Template, layer: nn.Module, *, int8: bool) -> Any:
    """A layer's model, where matrices that multiply the same vectors lie side by side."""
    import onnx
    from onnx import helper, numpy_helper

    model, arrays = onnx.ModelProto(), template.arrays(layer)
    model.CopyFrom(template.model)
    graph = model.graph
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in arrays]
    alike: dict[str, list[Any]] = {}  # by what they multiply
    for node in products:
        alike.setdefault(node.input[0], []).append(node)
    done = {node.output[0] for node in products}
    nodes = []
    for node in graph.node:
        if node.output[0] not in done:
            nodes.append(node)
            continue
        x = node.input[0]
        group = alike.pop(x, [])  # all of them where the first one stood
        if not group:
            continue
        weights = [arrays[each.input[1]] for each in group]
        outputs = [each.output[0] for each in group]
        whole = outputs[0] if len(outputs) == 1 else f"{x}.products"
        nodes += (_in_int8 if int8 else _in_float32)(x, whole, np.concatenate(weights, 1), arrays)
        if len(outputs) > 1:
            arrays[f"{whole}.sizes"] = np.array([each.shape[1] for each in weights])
            nodes.append(helper.make_node("Split", [whole, f"{whole}.sizes"], outputs, axis=-1))
    used = {name for node in nodes for name in node.input}
    kept = [numpy_helper.from_array(arrays[name], name) for name in arrays if name in used]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        del field[:]
        field.extend(values)
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def _chained(models: Sequence[Any]) -> Any:
    """Graphs of layers as one, which runs them in turn. They share the places of their rows."""
    import onnx

    if len(models) == 1:
        return models[0]
    whole = onnx.ModelProto()
    whole.CopyFrom(models[0])
    for field in ("node", "initializer"):
        del getattr(whole.graph, field)[:]
    last = len(models) - 1
    for number, model in enumerate(models):
        shared = {name: name for name in INPUTS[1:]} | {"": ""}  # an input that is left out
        shared["hidden"] = f"{number - 1}.out" if number else "hidden"
        shared["out"] = "out" if number == last else f"{number}.out"
        for array in model.graph.initializer:
            array.name = f"{number}.{array.name}"
        for node in model.graph.node:
            node.name = ""  # those of two layers would be the same
            for names in (node.input, node.output):
                names[:] = [shared.get(name, f"{number}.{name}") for name in names]
        whole.graph.node.extend(model.graph.node)
        whole.graph.initializer.extend(model.graph.initializer)
    onnx.checker.check_model(whole)
    return whole


def _in_float32(
    x: str, y: str, weight: NDArray[np.float32], arrays: dict[str, NDArray[Any]]
) -> Iterable[Any]:
    """Nodes for y = x @ weight [in, out], whose constants join `arrays`."""
    from onnx import helper

    arrays[f"{y}.weight"] = weight
    return [helper.make_node("MatMul", [x, f"{y}.weight"], [y])]


def _in_int8(
    x: str, y: str, weight: NDArray[np.float32], arrays: dict[str, NDArray[Any]]
) -> Iterable[Any]:
    """The same with the rounding of `Int8Linear`, and so with the same sums."""
    from onnx import TensorProto, helper

    numbers, scales = rounded(torch.from_numpy(weight.T))
    arrays |= {
        f"{y}.numbers": np.ascontiguousarray(numbers.numpy().T),
        f"{y}.scales": (scales / STEPS).float().numpy(),
        "int8.last": np.array([-1]),
        "int8.least": np.array(LEAST, np.float32),
        "int8.step": np.array(1 / STEPS, np.float32),
        "int8.zero": np.array(ZERO, np.uint8),
    }
    call = helper.make_node
    return [
        call("Abs", [x], [f"{y}.abs"]),
        call("ReduceMax", [f"{y}.abs", "int8.last"], [f"{y}.most"], keepdims=1),
        call("Max", [f"{y}.most", "int8.least"], [f"{y}.scale"]),
        call("Div", [x, f"{y}.scale"], [f"{y}.share"]),
        call("QuantizeLinear", [f"{y}.share", "int8.step", "int8.zero"], [f"{y}.rounded"]),
        call("MatMulInteger", [f"{y}.rounded", f"{y}.numbers", "int8.zero"], [f"{y}.sums"]),
        call("Cast", [f"{y}.sums"], [f"{y}.float"], to=TensorProto.FLOAT),
        call("Mul", [f"{y}.float", f"{y}.scales"], [f"{y}.shares"]),
        call("Mul", [f"{y}.shares", f"{y}.scale"], [y]),
    ]
