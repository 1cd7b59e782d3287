"""The nearest-neighbour router: how often a tier failed on the most similar known texts."""

from __future__ import annotations

import torch
from torch import nn

from adaptive.routers.checks import floats, indices, sizes

MOST_ROWS = 2048  # stored rows; more cost each text more than they tell


class Neighbours(nn.Module):
    """Mean outcome of the nearest stored rows: rows [R, F], worse [R, o], neighbours [].

    Smoothed by the mean of all stored rows with one neighbour's weight, so that a risk is
    never exactly 0 or 1.
    """

    TENSORS = ("rows", "worse", "neighbours")
    rows: torch.Tensor
    worse: torch.Tensor
    neighbours: torch.Tensor
    square: torch.Tensor
    prior: torch.Tensor

    def __init__(self, rows: torch.Tensor, worse: torch.Tensor, neighbours: torch.Tensor) -> None:
        super().__init__()
        count, self.inputs = sizes("rows", rows, 2)
        if not 0 < count <= MOST_ROWS:
            raise ValueError(f"router stores {count} rows, expected 1 to {MOST_ROWS}")
        _, self.outputs = sizes("worse", worse, 2)
        self.register_buffer("rows", floats("rows", rows, (count, self.inputs)))
        self.register_buffer("worse", floats("worse", worse, (count, self.outputs)))
        self.register_buffer("neighbours", indices("neighbours", neighbours, (), count + 1))
        self.register_buffer("square", (self.rows**2).sum(1), persistent=False)
        self.register_buffer("prior", self.worse.mean(0), persistent=False)
        # On the host, so that no call has to wait for the device to learn it.
        self.count = int(neighbours)

    def forward(self, standard: torch.Tensor) -> torch.Tensor:
        """Risk [b, o] of standardised features [b, F]."""
        # The text's own square is the same for every row and orders nothing.
        distance = self.square - 2 * (standard @ self.rows.T)
        nearest = distance.topk(self.count, dim=1, largest=False, sorted=False).indices
        return (self.worse[nearest].sum(1) + self.prior) / (self.count + 1)

    def work(self) -> float:
        """Multiply-adds a text."""
        return float(self.rows.numel())
