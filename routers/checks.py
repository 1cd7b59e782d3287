"""Checks of tensors that came from a file, before anything computes with them."""

from __future__ import annotations

import torch


def floats(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor as float32; ValueError where its shape differs or a value is not finite."""
    _check_shape(name, tensor, shape)
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"router tensor {name} must hold finite floats, found {tensor.dtype}")
    return tensor.detach().to(torch.float32)


def indices(name: str, tensor: torch.Tensor, shape: tuple[int, ...], limit: int) -> torch.Tensor:
    """The tensor as int64; ValueError where its shape differs or a value is not in [0, limit)."""
    _check_shape(name, tensor, shape)
    if tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"router tensor {name} must hold integers, found {tensor.dtype}")
    if tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) < limit:
        raise ValueError(
            f"router tensor {name} spans {int(tensor.min())} to {int(tensor.max())}, "
            f"expected 0 to {limit - 1}"
        )
    return tensor.detach().to(torch.int64)


def sizes(name: str, tensor: torch.Tensor, count: int) -> tuple[int, ...]:
    """The tensor's shape; ValueError where it has not `count` dimensions."""
    if tensor.dim() != count:
        raise ValueError(f"router tensor {name} has {tensor.dim()} dimensions, expected {count}")
    return tuple(tensor.shape)


def _check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"router tensor {name} has shape {tuple(tensor.shape)}, expected {shape}")
