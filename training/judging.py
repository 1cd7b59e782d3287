"""Writes the graphs of `adaptive.exits.judging`, `exits/graphs/*.onnx`.

To be run whenever they or the measures change: python -m adaptive.training.judging
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adaptive.exits.judging import FITTED, GRAPHS, OUTPUTS, READS, graph_name
from adaptive.exits.measures import FEATURES
from adaptive.training.onnx_nodes import FLOAT, OWN, Nodes, Shape

TINY = np.array(1e-8, np.float32)  # of the norms that a cosine is divided by
ZERO, ONE = (np.array(each, np.float32) for each in (0.0, 1.0))
ZERO_AT, ONE_AT, TWO_AT = (np.array([each]) for each in range(3))


def write_graphs(folder: Path) -> None:
    """Write a graph for each way to read, for any numbers of texts, classes and hidden units.

    It needs `onnx`, which the extra of that name brings.
    """
    import onnx

    folder.mkdir(exist_ok=True)
    for kind in READS:
        for first in (False, True):
            onnx.save(_graph(kind, first), folder / f"{graph_name(kind, first)}.onnx")


def _graph(kind: str, first: bool) -> Any:
    width = len(FEATURES)
    sizes: dict[str, Shape] = {
        "logits": ["b", "c"],
        "head.scale": ["h"],
        "head.shift": ["h"],
        "head.inner_matrix": ["u", "h"],
        "head.inner_bias": ["u"],
        "head.matrix": ["c", "u" if kind == "hidden" else "h"],
        "head.bias": ["c"],
    }
    before: dict[str, Shape] = {
        "pooled": ["b", "h"],
        "previous": ["b", "h"],
        "anchor": ["b", "c"],
        "prediction": ["b", 1],
        "streak": ["b", 1],
    }
    if first:
        before = {} if kind == "logits" else {"pooled": ["b", "h"]}
    others: dict[str, Shape] = {
        **before,
        "log_length": ["b", 1],
        "share": [],
        **dict(zip(FITTED, ([1], [1, width], [1, width], [width, 1], [1]), strict=True)),
    }
    dtypes = {"prediction": np.int64}
    inputs = {
        name: (dtypes.get(name, np.float32), shape)
        for name, shape in ({each: sizes[each] for each in READS[kind]} | others).items()
    }
    graph = Nodes()
    probabilities, prediction, streak, score = _exit(graph, _logits(graph, kind), first)
    outputs: dict[str, tuple[str, Any, Shape]] = {
        "probabilities": (probabilities, np.float32, ["b", "c"]),
        "prediction_": (prediction, np.int64, ["b", 1]),
        "streak_": (streak, np.float32, ["b", 1]),
        "reliability": (score, np.float32, ["b", 1]),
    }
    assert tuple(outputs) == OUTPUTS
    return graph.model("exit", inputs, outputs)


def _logits(graph: Nodes, kind: str) -> str:
    """As `ExitHead` has them."""
    if kind == "logits":
        return "logits"
    x = graph.add("LayerNormalization", "pooled", "head.scale", "head.shift", epsilon=1e-5)
    if kind == "hidden":
        x = graph.add("Gemm", x, "head.inner_matrix", "head.inner_bias", transB=1)
        x = graph.add("Gelu", x, domain=OWN)
    return graph.add("Gemm", x, "head.matrix", "head.bias", transB=1)


def _exit(graph: Nodes, logits: str, first: bool) -> tuple[str, str, str, str]:
    """As `measures.measure` and `Reliability` have it: the outputs. All but matrices are [b, 1]."""
    add, constant = graph.add, graph.constant
    logits = add("Div", logits, "temperature")
    shares = add("LogSoftmax", logits, axis=1)
    probabilities = add("Exp", shares)
    best, place = graph.parts(2, "TopK", shares, constant(TWO_AT), axis=1)
    prediction = add("Slice", place, constant(ZERO_AT), constant(ONE_AT), constant(ONE_AT))
    greatest, second = graph.parts(2, "Split", best, axis=1, num_outputs=2)
    top, next_best = graph.parts(2, "Split", add("Exp", best), axis=1, num_outputs=2)
    zero = add("Mul", top, constant(ZERO))
    weighed = add("ReduceSum", add("Mul", probabilities, shares), constant(ONE_AT))
    # relative to the second best, so that the others never vanish; the first may overflow
    relative = add("Exp", add("Sub", shares, second))
    others = add("ScatterElements", relative, prediction, zero, axis=1)
    rest = add("Log", add("ReduceSum", others, constant(ONE_AT)))
    measured = {
        "max_probability": top,
        "margin": add("Sub", top, next_best),
        "entropy": add("Mul", weighed, "share"),
        "energy": add("Sub", greatest, add("ReduceMax", logits, constant(ONE_AT))),
        "log_odds": add("Sub", add("Sub", greatest, second), rest),
        "log_length": "log_length",
        **(_no_others(graph, top, zero) if first else _others(graph, prediction)),
    }
    features = add("Concat", *(measured[name] for name in FEATURES), axis=1)
    standard = add("Div", add("Sub", features, "mean"), "scale")
    score = add("Sigmoid", add("Gemm", standard, "weight", "bias"))
    return probabilities, prediction, measured["streak"], score


def _no_others(graph: Nodes, top: str, zero: str) -> dict[str, str]:
    """The measures that compare with other exits, at the first of all."""
    return {
        "agrees_previous": zero,
        "streak": zero,
        "saturation": zero,
        "agrees_anchor": graph.add("Add", zero, graph.constant(ONE)),
        "anchor_probability": top,
        "anchor_max_probability": top,
    }


def _others(graph: Nodes, prediction: str) -> dict[str, str]:
    """The same at any later one."""
    add, constant = graph.add, graph.constant
    same = add("Cast", add("Equal", prediction, "prediction"), to=FLOAT)
    streak = add("Mul", add("Add", "streak", constant(ONE)), same)
    largest, choice = graph.parts(2, "TopK", "anchor", constant(ONE_AT), axis=1)
    return {
        "agrees_previous": add("Min", streak, constant(ONE)),
        "streak": streak,
        "saturation": _cosine(graph, "pooled", "previous"),
        "agrees_anchor": add("Cast", add("Equal", choice, prediction), to=FLOAT),
        "anchor_probability": add("GatherElements", "anchor", prediction, axis=1),
        "anchor_max_probability": largest,
    }


def _cosine(graph: Nodes, one: str, other: str) -> str:
    add, columns = graph.add, graph.constant(ONE_AT)
    product = add("ReduceSum", add("Mul", one, other), columns)
    norms = [
        add("Max", add("ReduceL2", each, columns), graph.constant(TINY)) for each in (one, other)
    ]
    return add("Div", product, add("Mul", *norms))


if __name__ == "__main__":
    write_graphs(GRAPHS)
