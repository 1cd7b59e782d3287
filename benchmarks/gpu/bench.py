"""What the stages share: the device, what was carried, and what is loaded already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch
from gpu.speed import matmul_peak
from gpu.subjects import CLINC, Subject, carried, read_texts, shaped
from numpy.typing import NDArray

from adaptive.bundle.header import read_header

SQUARE, SMALL_SQUARE = 8192, 256  # of the matmul whose speed is the peak
ROWS, SMALL_ROWS = 4096, 64
LARGE, LARGE_ROWS = "bert_large", 1024
SMALL_TEXTS = 100
BATCHES = (1, 512, 32, 4096, 8, 128, 1024)  # in the order of their worth
SMALL_BATCHES = (1, 8)


@dataclass(slots=True)
class Bench:
    """Where and on what everything is measured."""

    device: torch.device
    dtype: str  # of what is timed
    folder: Path  # with `bundle`, certify.csv and test.csv
    small: bool  # tiny shapes and few rows, to see that it runs
    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)  # what one piece leaves for later ones

    @property
    def batches(self) -> tuple[int, ...]:
        """Rows of a batch that are measured."""
        return SMALL_BATCHES if self.small else BATCHES

    @property
    def bundle(self) -> Path:
        """The carried bundle."""
        return self.folder / "bundle"

    def subject(self, name: str, dtype: str | None = None) -> Subject:
        """One of `SHAPES` or the carried bundle, on the device; made once."""
        key = (name, dtype or self.dtype)
        if key not in self.subjects:
            self.subjects[key] = self.load(key[1], self.device, name)
        return self.subjects[key]

    def load(self, dtype: str, device: torch.device, name: str = CLINC) -> Subject:
        """The same, made anew wherever it is wanted."""
        kind = getattr(torch, dtype)
        if name == CLINC:
            return carried(self.bundle, self.texts("test")[0], kind, device)
        rows = SMALL_ROWS if self.small else LARGE_ROWS if name == LARGE else ROWS
        return shaped(name, kind, device, rows, self.small)

    def texts(self, split: str) -> tuple[list[str], NDArray[np.int32]]:
        """Texts of a carried file, and the places of their labels."""
        texts, labels = read_texts(self.folder / f"{split}.csv", self.labels)
        return (texts[:SMALL_TEXTS], labels[:SMALL_TEXTS]) if self.small else (texts, labels)

    @property
    def peak(self) -> float:
        """FLOP/s of a large product in the dtype of what is timed."""
        if self.dtype not in self.peaks:
            square = SMALL_SQUARE if self.small else SQUARE
            self.peaks[self.dtype] = matmul_peak(self.device, getattr(torch, self.dtype), square)
        return self.peaks[self.dtype]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bundle's classes."""
        return read_header(self.bundle).labels


def known_commit() -> str:
    """The commit that is run, where git tells."""
    try:
        return records.commit()
    except OSError:
        return ""


def about(device: torch.device, dtype: str, small: bool, commit: str) -> dict[str, Any]:
    """What runs it."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "gpu": gpu,
        "dtype": dtype,
        "small": small,
        "machine": records.machine(),
        "versions": records.versions() | {"cuda": torch.version.cuda},
        "commit": commit or known_commit(),
    }
