"""Narrower embedding tables that keep what a wide one knows."""

from __future__ import annotations

import torch


def principal_directions(table: torch.Tensor, width: int) -> torch.Tensor:
    """Orthonormal directions [h, width] that keep most of a table's [V, h] energy.

    The leading right singular vectors, found from the [h, h] Gram matrix in float64: exact,
    and cheap for a tall table. Not centred, so that the map is linear.

    Raises:
        ValueError: `width` is more than the table's.
    """
    if not 0 < width <= table.shape[1]:
        raise ValueError(f"cannot project a table of width {table.shape[1]} to width {width}")
    tall = table.detach().double()
    _, vectors = torch.linalg.eigh(tall.T @ tall)  # ascending eigenvalues
    leading: torch.Tensor = vectors[:, -width:].flip(1).to(table.dtype)
    return leading


def project(table: torch.Tensor, width: int) -> torch.Tensor:
    """The table [V, h] in its leading `width` directions, [V, width]."""
    return table.detach() @ principal_directions(table, width)
