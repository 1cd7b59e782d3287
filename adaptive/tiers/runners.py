"""What a machine lacks for a runner of `adaptive.runners`, in words that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

import torch

from adaptive.runners import RUNNERS
from adaptive.tiers import int8


def lacking(name: str, device: str, *, preparing: bool = False) -> str | None:
    """Why a runner cannot serve here, None where it can.

    Args:
        name: of the table.
        device: kind of it, such as `cpu`.
        preparing: a build is to prepare a tier for it, too.
    """
    runner = RUNNERS[name]
    if runner.device not in (None, device):
        return f"{name} would run on a {_WORDS[runner.device]}, and this is {device}"
    wanted = (*runner.preparing, *runner.packages) if preparing else runner.packages
    missing = [package for package in wanted if find_spec(package) is None]
    if missing:
        told = f"{', '.join(missing)} is not installed"
        return f"{told}; pip install 'adaptive-cascade[{runner.extra}]'"
    if runner.kernels is not None:
        has, told = _KERNELS[runner.kernels]
        return None if has() else told
    return None


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies in bfloat16 by instructions of this CPU (AVX-512 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


_WORDS = {"cpu": "CPU", "cuda": "GPU"}
_KERNELS: Mapping[str, tuple[Callable[[], bool], str]] = {
    "int8": (
        lambda: int8.available(),
        f"torch's {int8.ENGINE} kernels are needed, and this build of torch lacks them",
    ),
    "bfloat16": (
        lambda: has_bfloat16(),
        "this CPU has no bfloat16 instructions (AVX-512 BF16 or AMX)",
    ),
}
