"""Outcome tables as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.files import read_numpy, write_numpy
from adaptive.errors import BundleError
from adaptive.policy.worth import classified, graded
from adaptive.types import Groups, OutcomeTable, Sampled, Stage, Usage

# field -> dtype and axes; n texts, k stages, m tiers
_Fields = dict[str, tuple[type[np.generic], str]]
_FIELDS: _Fields = {
    "reliability": (np.float32, "nk"),
    "risk": (np.float32, "nm"),
    "tokens": (np.int64, "n"),
}
_CLASSES: _Fields = {"predictions": (np.int32, "nk"), "labels": (np.int32, "n")}
_GRADED: _Fields = {
    "score": (np.float32, "nk"),
    "alike": (np.float32, "nk"),
    "reference_score": (np.float32, "n"),
}
_USAGE: _Fields = {  # only what was recorded
    "tokens_in": (np.int64, "nk"),
    "tokens_out": (np.int64, "nk"),
    "tokens_cached": (np.int64, "nk"),
    "milliseconds": (np.float64, "nk"),
    "dollars": (np.float64, "nk"),
}
_REFERENCE = "reference"  # int32 [n], only where the full tier is not served in float32 in torch
_FORMERLY = "unquantised"  # its name before
_SAMPLED = "sampled"
_GROUP = "group."  # then the column's name
_USED = "usage."  # then the field's


def save_outcomes(table: OutcomeTable, path: Path) -> None:
    """Write a table; its stages and the names of its groups go into the file's metadata.

    Of a classifier the classes are written, of which its worth is made again; of others the worth.
    """
    arrays = {name: getattr(table, name) for name in _FIELDS}
    if table.classes is not None:
        arrays |= {name: getattr(table.classes, name) for name in _CLASSES}
        if table.classes.in_float32 is not None:
            arrays[_REFERENCE] = table.classes.in_float32
    else:
        worth = table.worth
        arrays |= {"score": worth.score, "alike": worth.alike, "reference_score": worth.reference}
    if table.usage is not None:
        used = {name: getattr(table.usage, name) for name in _USAGE}
        arrays |= {_USED + name: array for name, array in used.items() if array is not None}
    arrays |= {_GROUP + column: each.index for column, each in table.groups.items()}
    names = {column: list(each.names) for column, each in table.groups.items()}
    metadata = {"stages": _stages(table.stages), "groups": json.dumps(names)}
    if table.classes is None:
        metadata["own"] = json.dumps(table.worth.own)
    if table.sampled is not None:
        metadata[_SAMPLED] = json.dumps([table.sampled.right, table.sampled.texts])
    write_numpy(path, arrays, metadata)


def load_outcomes(path: Path, stages: tuple[Stage, ...], name: str) -> OutcomeTable:
    """Read a table of a cascade with these stages.

    Raises:
        BundleError: other stages, a missing array, a wrong dtype or shape, scores that cannot be;
            the message calls the file `name`.
    """
    arrays, metadata = read_numpy(path, name)
    if metadata.get("stages") != _stages(stages):
        raise BundleError(f"{name}: recorded for other stages than this bundle's {_stages(stages)}")
    groups = _groups(arrays, metadata, name)
    reference = arrays.pop(_REFERENCE, arrays.pop(_FORMERLY, None))
    usage = {key: arrays.pop(_USED + key) for key in _USAGE if _USED + key in arrays}
    answers = _GRADED if "score" in arrays else _CLASSES
    fields = _FIELDS | answers
    if arrays.keys() != fields.keys():
        raise BundleError(f"{name}: expected {sorted(fields)}, found {sorted(arrays)}")
    sizes = {"n": arrays["tokens"].size, "k": len(stages), "m": 1 + stages[-1].tier}
    for found, kinds in ((arrays, fields), (usage, _USAGE)):
        for key, array in found.items():
            dtype, axes = kinds[key]
            _check(array, np.dtype(dtype), tuple(sizes[each] for each in axes), f"{name}: {key}")
    for column, each in groups.items():
        _check(each.index, np.dtype(np.int32), (sizes["n"],), f"{name}: group {column!r}")
        if len(each.index) and not 0 <= each.index.min() <= each.index.max() < len(each.names):
            raise BundleError(f"{name}: group {column!r} has rows of a group without a name")
    own = {key: arrays.pop(key) for key in answers}
    recorded, sampled = Usage(**usage) if usage else None, _sampled(metadata, name)
    if answers is _CLASSES:
        if reference is not None:
            _check(reference, np.dtype(np.int32), (sizes["n"],), f"{name}: {_REFERENCE}")
        table = classified(stages, **own, **arrays, groups=groups, in_float32=reference)
        return replace(table, usage=recorded, sampled=sampled)
    try:
        worth = graded(own["score"], own["alike"], own["reference_score"])
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from None
    worth = replace(worth, own=metadata.get("own") == "true")
    rest: dict[str, Any] = {**arrays, "groups": groups, "usage": recorded, "sampled": sampled}
    return OutcomeTable(stages, worth, **rest)


def _stages(stages: tuple[Stage, ...]) -> str:
    return json.dumps([[stage.tier, stage.exit, stage.depth] for stage in stages])


def _sampled(metadata: Mapping[str, str], name: str) -> Sampled | None:
    """What a sample said of the full tier, where labels were asked for."""
    if _SAMPLED not in metadata:
        return None
    try:
        found = Sampled(*map(int, json.loads(metadata[_SAMPLED])))
    except (ValueError, TypeError):
        found = Sampled(0, 0)
    if not 0 <= found.right <= found.texts or not found.texts:
        raise BundleError(f"{name}: {_SAMPLED} must be right answers and texts of a sample")
    return found


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
