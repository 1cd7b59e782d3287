"""What every record says besides its figures, and how it is written."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
INSTRUCTIONS = (  # as Linux calls them
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
)


def read(file: Path) -> dict[str, Any]:
    """A record, empty where there is none."""
    record: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return record


def write(file: Path, record: dict[str, Any]) -> None:
    """Write a record, with what ran it now."""
    told = record | {"machine": machine(), "versions": versions(), "commit": commit()}
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What ran it."""
    return {
        "processor": processor(),
        "cores": torch.get_num_threads(),
        "system": platform.system(),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    return _cpuinfo("model name") or platform.processor()


def flags() -> list[str]:
    """Which instructions this CPU has, of those that decide how fast products are."""
    has = _cpuinfo("flags").split()
    return [name for name in INSTRUCTIONS if name in has]


def _cpuinfo(field: str) -> str:
    """What Linux tells of the first processor, nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((x.partition(":")[2].strip() for x in lines if x.startswith(field)), "")


def versions() -> dict[str, str]:
    """Versions that the figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def commit() -> str:
    """The commit that was run; with + where files differed from it."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, cwd=HERE
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
