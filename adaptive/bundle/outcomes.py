"""Outcome tables as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.files import read_numpy, write_numpy
from adaptive.errors import BundleError
from adaptive.types import Groups, OutcomeTable, Stage
from adaptive.worth import classified

# field -> dtype and axes; n texts, k stages, m tiers
_FIELDS: dict[str, tuple[type[np.generic], str]] = {
    "predictions": (np.int32, "nk"),
    "reliability": (np.float32, "nk"),
    "risk": (np.float32, "nm"),
    "labels": (np.int32, "n"),
    "tokens": (np.int64, "n"),
}
_REFERENCE = "reference"  # int32 [n], only where the full tier is not served in float32 in torch
_FORMERLY = "unquantised"  # its name before
_GROUP = "group."  # then the column's name


def save_outcomes(table: OutcomeTable, path: Path) -> None:
    """Write a table; its stages and the names of its groups go into the file's metadata."""
    stages = [[stage.tier, stage.exit, stage.depth] for stage in table.stages]
    arrays = {name: getattr(table, name) for name in _FIELDS}
    arrays |= {_GROUP + column: each.index for column, each in table.groups.items()}
    if not table.worth.own:
        arrays[_REFERENCE] = table.reference
    names = {column: list(each.names) for column, each in table.groups.items()}
    write_numpy(path, arrays, {"stages": json.dumps(stages), "groups": json.dumps(names)})


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
    groups = _groups(arrays, metadata, name)
    reference = arrays.pop(_REFERENCE, arrays.pop(_FORMERLY, None))
    if arrays.keys() != _FIELDS.keys():
        raise BundleError(f"{name}: expected {sorted(_FIELDS)}, found {sorted(arrays)}")
    sizes = {"n": arrays["labels"].size, "k": len(stages), "m": 1 + stages[-1].tier}
    for key, (dtype, axes) in _FIELDS.items():
        _check(arrays[key], np.dtype(dtype), tuple(sizes[axis] for axis in axes), f"{name}: {key}")
    for column, each in groups.items():
        _check(each.index, np.dtype(np.int32), (sizes["n"],), f"{name}: group {column!r}")
        if len(each.index) and not 0 <= each.index.min() <= each.index.max() < len(each.names):
            raise BundleError(f"{name}: group {column!r} has rows of a group without a name")
    if reference is not None:
        _check(reference, np.dtype(np.int32), (sizes["n"],), f"{name}: {_REFERENCE}")
    return classified(stages, **arrays, groups=groups, in_float32=reference)


def _groups(
    arrays: dict[str, NDArray[Any]], metadata: Mapping[str, str], name: str
) -> dict[str, Groups]:
    """The groups, taken out of the arrays."""
    try:
        named = json.loads(metadata.get("groups", "{}"))
        return {
            str(column): Groups(tuple(map(str, names)), arrays.pop(_GROUP + column))
            for column, names in named.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{name}: the names of its groups are not those of its arrays") from None


def _check(array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"{where} must be {dtype} {list(shape)}, found {array.dtype} {list(array.shape)}"
        )
