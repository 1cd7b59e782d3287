"""Outcome tables as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.files import read_numpy, write_numpy
from adaptive.errors import BundleError
from adaptive.types import OutcomeTable, Stage

# field -> dtype and axes; n texts, k stages, m tiers
_FIELDS: dict[str, tuple[type[np.generic], str]] = {
    "predictions": (np.int32, "nk"),
    "reliability": (np.float32, "nk"),
    "risk": (np.float32, "nm"),
    "labels": (np.int32, "n"),
    "tokens": (np.int64, "n"),
}


def save_outcomes(table: OutcomeTable, path: Path) -> None:
    """Write a table; its stages go into the file's metadata."""
    stages = [[stage.tier, stage.exit, stage.depth] for stage in table.stages]
    arrays = {name: getattr(table, name) for name in _FIELDS}
    write_numpy(path, arrays, {"stages": json.dumps(stages)})


def load_outcomes(path: Path, stages: tuple[Stage, ...], name: str) -> OutcomeTable:
    """Read a table of a cascade with these stages.

    Raises:
        BundleError: other stages, a missing array, a wrong dtype or shape; the message calls
            the file `name`.
    """
    arrays, metadata = read_numpy(path, name)
    expected = [[stage.tier, stage.exit, stage.depth] for stage in stages]
    if metadata.get("stages") != json.dumps(expected):
        raise BundleError(f"{name}: recorded for other stages than this bundle's {expected}")
    if arrays.keys() != _FIELDS.keys():
        raise BundleError(f"{name}: expected {sorted(_FIELDS)}, found {sorted(arrays)}")
    sizes = {"n": arrays["labels"].size, "k": len(stages), "m": 1 + stages[-1].tier}
    for key, (dtype, axes) in _FIELDS.items():
        _check(arrays[key], np.dtype(dtype), tuple(sizes[axis] for axis in axes), f"{name}: {key}")
    return OutcomeTable(stages=stages, **arrays)


def _check(array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"{where} must be {dtype} {list(shape)}, found {array.dtype} {list(array.shape)}"
        )
