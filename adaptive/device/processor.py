"""What computes: a processor's name, which times depend on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch


def processor_of(device: torch.device) -> str:
    """The model of the GPU, or of the CPU for anything else."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


@cache
def cpu_name() -> str:
    """The CPU's model, as the system calls it; its architecture where it tells no model."""
    return _from_linux(Path("/proc/cpuinfo")) or platform.processor() or platform.machine()


def _from_linux(file: Path) -> str:
    """The first CPU's model; of an ARM CPU its implementer and part. Empty where not told."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            told.setdefault(name.strip(), value.strip())
    if "model name" in told:
        return told["model name"]
    parts = [told.get(name, "") for name in ("CPU implementer", "CPU part")]
    return f"{platform.machine()} {' '.join(parts)}" if all(parts) else ""
