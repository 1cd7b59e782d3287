"""Writes `exits/judge.onnx` from `adaptive.exits.judging`; to be run whenever that changes.

python -m adaptive.training.judging
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptive.exits.judging import GRAPH, INPUTS, OUTPUTS, judge
from adaptive.exits.reliability import Reliability
from adaptive.training.graphs import OPSET, plain, quiet_exporter


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

    It needs the extra `onnx`.
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
    with quiet_exporter():
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
    onnx.save(plain(program.model_proto), file)


if __name__ == "__main__":
    write_graph(GRAPH)
