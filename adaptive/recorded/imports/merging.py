"""Rows of one model each, put together by request."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adaptive.errors import DataError
from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row

Part = tuple[int, str, dict[str, Any], str, dict[str, Any]]
"""Row number, request's key, the request's fields, model, the model's fields."""


def merged(parts: Iterable[Part], faults: Faults) -> list[Row]:
    """One row a request, in the order they first come; a model answers each once."""
    found: dict[str, Row] = {}
    for number, key, request, model, fields in parts:
        row = found.setdefault(key, (number, {**request, "models": {}}))[1]
        if model in row["models"]:
            faults.add(number, "is a second answer of its model to its request", model)
        row["models"][model] = fields
    return list(found.values())


def files_below(path: Path, pattern: str) -> list[Path]:
    """The file, or the folder's files of that name, sorted.

    Raises:
        DataError: there is none.
    """
    found = sorted(path.rglob(pattern)) if path.is_dir() else [path] * path.is_file()
    if not found:
        raise DataError(f"{path}: no file {pattern} there")
    return found
