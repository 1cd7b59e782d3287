"""Writes the graphs of `adaptive.exits.judging`, `exits/graphs/*.onnx`.

To be run whenever they or the measures change: python -m adaptive.training.judging
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adaptive.exits.judging import FITTED, GRAPHS, OUTPUTS, READS
from adaptive.exits.measures import FEATURES
from adaptive.training.onnx_nodes import FLOAT, OWN, Nodes, Shape

FAR = np.array(1e30, np.float32)  # below any logit
TINY = np.array(1e-8, np.float32)  # of the norms that a cosine is divided by
ONE, ZERO_AT, ONE_AT, TWO_AT = np.array(1.0, np.float32), *(np.array([i]) for i in range(3))


def write_graphs(folder: Path) -> None:
    """Write a graph for each way to read, for any numbers of texts, classes and hidden units.

    It needs `onnx`, which the extra of that name brings.
    """
    import onnx

    folder.mkdir(exist_ok=True)
    for kind in READS:
        onnx.save(_graph(kind), folder / f"{kind}.onnx")


def _graph(kind: str) -> Any:
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
    others: dict[str, Shape] = {
        "pooled": ["b", "h"],
        "previous": ["b", "h"],
        "anchor": ["b", "c"],
        "prediction": ["b", 1],
        "streak": ["b", 1],
        "log_length": ["b", 1],
        "first": [],
        "share": [],
        **dict(zip(FITTED, ([1], [1, width], [1, width], [width, 1], [1]), strict=True)),
    }
    dtypes = {"prediction": np.int64, "first": np.bool_}
    inputs = {
        name: (dtypes.get(name, np.float32), shape)
        for name, shape in ({each: sizes[each] for each in READS[kind]} | others).items()
    }
    graph = Nodes()
    probabilities, prediction, streak, score = _exit(graph, _logits(graph, kind))
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


def _exit(graph: Nodes, logits: str) -> tuple[str, str, str, str]:
    """As `measures.measure` and `Reliability` have it: the outputs. All but matrices are [b, 1]."""
    add, constant = graph.add, graph.constant
    logits = add("Div", logits, "temperature")
    probabilities = add("Softmax", logits, axis=1)
    best, place = graph.parts(2, "TopK", logits, constant(TWO_AT), axis=1)
    prediction = add("Slice", place, constant(ZERO_AT), constant(ONE_AT), constant(ONE_AT))
    log_sum = add("ReduceLogSumExp", logits, constant(ONE_AT))
    greatest = add("Slice", best, constant(ZERO_AT), constant(ONE_AT), constant(ONE_AT))
    top, second = graph.parts(
        2, "Split", add("Exp", add("Sub", best, log_sum)), axis=1, num_outputs=2
    )
    weighed = add("Mul", probabilities, add("Sub", logits, log_sum))
    entropy = add("Mul", add("ReduceSum", weighed, constant(ONE_AT)), "share")
    others = add("ScatterElements", logits, prediction, add("Sub", greatest, constant(FAR)), axis=1)
    log_odds = add("Sub", greatest, add("ReduceLogSumExp", others, constant(ONE_AT)))
    same = add("Cast", add("Equal", prediction, "prediction"), to=FLOAT)
    streak = add("Mul", add("Add", "streak", constant(ONE)), same)
    anchor = add("Where", "first", probabilities, "anchor")
    largest, choice = graph.parts(2, "TopK", anchor, constant(ONE_AT), axis=1)
    measured = {
        "max_probability": top,
        "margin": add("Sub", top, second),
        "entropy": entropy,
        "energy": add("Neg", log_sum),
        "log_odds": log_odds,
        "agrees_previous": add("Min", streak, constant(ONE)),
        "streak": streak,
        "saturation": _cosine(graph, "pooled", "previous"),
        "agrees_anchor": add("Cast", add("Equal", choice, prediction), to=FLOAT),
        "anchor_probability": add("GatherElements", anchor, prediction, axis=1),
        "anchor_max_probability": largest,
        "log_length": "log_length",
    }
    features = add("Concat", *(measured[name] for name in FEATURES), axis=1)
    standard = add("Div", add("Sub", features, "mean"), "scale")
    score = add("Sigmoid", add("Gemm", standard, "weight", "bias"))
    return probabilities, prediction, streak, score


def _cosine(graph: Nodes, one: str, other: str) -> str:
    add, columns = graph.add, graph.constant(ONE_AT)
    product = add("ReduceSum", add("Mul", one, other), columns)
    norms = [
        add("Max", add("ReduceL2", each, columns), graph.constant(TINY)) for each in (one, other)
    ]
    return add("Div", product, add("Mul", *norms))


if __name__ == "__main__":
    write_graphs(GRAPHS)
