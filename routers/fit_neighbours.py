"""Fitting the nearest-neighbour router: which rows to store, how many to ask."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.routers.neighbours import MOST_ROWS, Neighbours

_COUNTS = (8, 16, 32, 64, 128)


def fit_neighbours(
    standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int
) -> Neighbours:
    """Stores a seeded draw of the rows; the number of neighbours is chosen leaving one out."""
    drawn = np.random.default_rng(seed).permutation(len(standard))[:MOST_ROWS]
    rows = torch.from_numpy(standard[drawn])
    outcome = torch.from_numpy(worse[drawn]).float()
    counts = [count for count in _COUNTS if count < len(rows)] or [len(rows)]
    count = counts[0] if len(counts) == 1 else _choose(rows, outcome, counts)
    return Neighbours(rows, outcome, torch.tensor(count))


def _choose(rows: torch.Tensor, outcome: torch.Tensor, counts: list[int]) -> int:
    """The count of least log loss when every row is judged by the others."""
    distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    nearest = distance.topk(counts[-1], dim=1, largest=False).indices  # nearest first
    seen = outcome[nearest].cumsum(1)  # [R, count, o]
    prior = outcome.mean(0)
    losses = [
        float(
            torch.nn.functional.binary_cross_entropy(
                (seen[:, count - 1] + prior) / (count + 1), outcome
            )
        )
        for count in counts
    ]
    return counts[int(np.argmin(losses))]
