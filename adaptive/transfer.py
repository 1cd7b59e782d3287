"""Values on the host to where they are computed with."""

from __future__ import annotations

from typing import Any

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
