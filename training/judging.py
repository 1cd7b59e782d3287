"""Writes `exits/judge.onnx` from `adaptive.exits.judging`; to be run whenever that changes.

python -m adaptive.training.judging
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptive.exits.judging import GRAPH, INPUTS, OUTPUTS, judge
from adaptive.exits.reliability import Reliability

OPSET = 18


class _Judge(nn.Module):
    """`judge` as a function of tensors alone, the stage's number and what was fitted among them."""

    def forward(self, stage: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen, fitted = given[: len(INPUTS) - 1], given[len(INPUTS) - 1 :]
        reliability = Reliability(1)
        for (name, _), buffer in zip(list(reliability.named_buffers()), fitted, strict=True):
            setattr(reliability, name, buffer)
        return judge(reliability, stage, *seen)


def write_graph(file: Path) -> None:
    """Write the graph, for any numbers of texts, classes, hidden units and stages.

    It needs `onnx` and `onnxscript`, which the extra `dev` brings.
    """
    import onnx

    b, c, h, k = (torch.export.Dim(name, min=2) for name in ("b", "c", "h", "k"))
    rows, fitted = 3, dict(Reliability(4).named_buffers())
    example = (
        torch.tensor(1),
        torch.randn(rows, 5),
        torch.randn(rows, 7),
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows),
        torch.randn(rows, 7),
        torch.rand(rows, 5),
        torch.rand(rows),
        *fitted.values(),
    )
    shapes: tuple[Any, ...] = ({}, {0: b, 1: c}, {0: b, 1: h}, {0: b}, {0: b}, {0: b, 1: h})
    shapes += ({0: b, 1: c}, {0: b}, *({0: k} for _ in fitted))
    with _quiet_exporter():
        program = torch.onnx.export(
            _Judge(),
            example,
            input_names=[*INPUTS, *fitted],
            output_names=OUTPUTS,
            dynamic_shapes=(shapes[0], shapes[1:]),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    onnx.save(_plain(program.model_proto), file)


def _plain(model: Any) -> Any:
    """A model without what the exporter notes of itself, such as where this file lies."""
    graph = model.graph
    parts = (graph.input, graph.output, graph.node, graph.value_info, graph.initializer)
    for each in (model, graph, *chain(*parts)):
        del each.metadata_props[:]
        each.doc_string = ""
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
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


if __name__ == "__main__":
    write_graph(GRAPH)
