"""The logistic router and the one with a hidden layer."""

from __future__ import annotations

import torch
from torch import nn

from adaptive.routers.checks import floats, sizes


class Logistic(nn.Module):
    """One logistic regression a tier: weight [F, o], bias [o]."""

    TENSORS = ("weight", "bias")
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.inputs, self.outputs = sizes("weight", weight, 2)
        self.register_buffer("weight", floats("weight", weight, (self.inputs, self.outputs)))
        self.register_buffer("bias", floats("bias", bias, (self.outputs,)))

    def forward(self, standard: torch.Tensor) -> torch.Tensor:
        """Risk [b, o] of standardised features [b, F]."""
        return torch.sigmoid(standard @ self.weight + self.bias)

    def work(self) -> float:
        """Multiply-adds a text."""
        return float(self.weight.numel())


class Perceptron(nn.Module):
    """One hidden layer of GELUs: inner_weight [F, H], outer_weight [H, o], and their biases."""

    TENSORS = ("inner_weight", "inner_bias", "outer_weight", "outer_bias")
    inner_weight: torch.Tensor
    inner_bias: torch.Tensor
    outer_weight: torch.Tensor
    outer_bias: torch.Tensor

    def __init__(
        self,
        inner_weight: torch.Tensor,
        inner_bias: torch.Tensor,
        outer_weight: torch.Tensor,
        outer_bias: torch.Tensor,
    ) -> None:
        super().__init__()
        self.inputs, hidden = sizes("inner_weight", inner_weight, 2)
        _, self.outputs = sizes("outer_weight", outer_weight, 2)
        shapes = ((self.inputs, hidden), (hidden,), (hidden, self.outputs), (self.outputs,))
        given = (inner_weight, inner_bias, outer_weight, outer_bias)
        for name, tensor, shape in zip(self.TENSORS, given, shapes, strict=True):
            self.register_buffer(name, floats(name, tensor, shape))

    def forward(self, standard: torch.Tensor) -> torch.Tensor:
        """Risk [b, o] of standardised features [b, F]."""
        inner = nn.functional.gelu(standard @ self.inner_weight + self.inner_bias)
        return torch.sigmoid(inner @ self.outer_weight + self.outer_bias)

    def work(self) -> float:
        """Multiply-adds a text."""
        return float(self.inner_weight.numel() + self.outer_weight.numel())
