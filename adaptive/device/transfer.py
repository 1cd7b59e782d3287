"""Values on the host to where they are computed with, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def put(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device.

    On a GPU it goes through pinned memory, so that the host does not wait for the copy; torch
    keeps the memory until the copy is done.
    """
    found = torch.from_numpy(values)
    if device.type == "cpu":
        return found
    if device.type == "cuda":
        return found.pin_memory().to(device, non_blocking=True)
    return found.to(device)


def put_all(parts: Sequence[NDArray[np.int64]], device: torch.device) -> Sequence[torch.Tensor]:
    """Arrays [n] as tensors on a device, which takes one copy."""
    if device.type == "cpu":
        return [torch.from_numpy(part) for part in parts]
    return torch.split(put(np.concatenate(parts), device), [len(part) for part in parts])


def pinned(parts: Sequence[NDArray[Any]], device: torch.device) -> torch.Tensor:
    """Whole numbers one behind the other, int32, in memory from where a GPU copies by itself."""
    total = sum(map(len, parts))
    found = torch.empty(total, dtype=torch.int32, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=found.numpy(), casting="same_kind")
    return found


def fetch(values: torch.Tensor) -> Callable[[], NDArray[Any]]:
    """Values on their way to the host; the call waits for them.

    On a GPU the host goes on meanwhile, and the call waits for no work that was launched later.
    """
    if values.device.type != "cuda":
        found: NDArray[Any] = values.cpu().numpy()
        return lambda: found
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    copied = torch.cuda.current_stream(values.device).record_event()

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return there.numpy()

    return wait
