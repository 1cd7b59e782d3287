"""Relative paths in recipes and presets: relative to the file, wherever a command runs."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptive.config.documents import Trail
from adaptive.errors import ConfigError

DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz", ".parquet")
_WRITTEN = ("output",)
_READ: tuple[Trail, ...] = (("bundle",), ("model", "id"), ("data", "source"))


def place_paths(
    name: str, value: Mapping[str, Any], folder: Path, given: Collection[str] = ()
) -> dict[str, Any]:
    """A copy of a recipe's or preset's values with its paths as seen from the current folder.

    What is to be read may be a hub id as well: it is taken for a path where it exists beside the
    file, begins with a dot or has the suffix of a data file.

    Args:
        name: of the file, for errors.
        folder: the one it lies in.
        given: paths of values that the command line replaces (`data.source`), left as they are.

    Raises:
        ConfigError: something is in the current folder and not beside the file.
    """
    placed, faults = copy.deepcopy(dict(value)), []
    for trail in _trails(placed):
        shown = ".".join(str(step) for step in trail)
        parent: Any = placed
        for step in trail[:-1]:
            parent = parent[step]
        found = parent[trail[-1]]
        if any(shown == each or shown.startswith(f"{each}.") for each in given):
            continue
        if not isinstance(found, str) or found.startswith("package:") or _is_absolute(found):
            continue
        beside = folder / found
        if trail == _WRITTEN or beside.exists() or _is_path(found):
            parent[trail[-1]] = _from_here(beside)
        elif Path(found).exists():
            faults.append(
                f"{shown}: {found!r} is not beside the file, to which paths are relative, but in "
                f"the current folder; write {os.path.relpath(found, folder)!r}"
            )
    if faults:
        raise ConfigError(f"{name}: paths cannot be followed", faults)
    return placed


def _trails(value: Mapping[str, Any]) -> Iterator[Trail]:
    """Where paths stand."""
    data = value.get("data")
    others = data.get("unlabelled") if isinstance(data, Mapping) else None
    count = len(others) if isinstance(others, list) else 0
    more: list[Trail] = [("data", "unlabelled", index, "source") for index in range(count)]
    more.append(("data", "pool", "source"))
    for trail in (_WRITTEN, *_READ, *more):
        at: Any = value
        for step in trail[:-1]:
            at = at[step] if isinstance(step, int) else at.get(step)
            if not isinstance(at, Mapping | list):
                break
        else:
            if isinstance(at, Mapping) and trail[-1] in at:
                yield trail


def _is_absolute(path: str) -> bool:
    return path.startswith("~") or Path(path).is_absolute()


def _is_path(value: str) -> bool:
    return value.startswith(".") or Path(value).suffix.lower() in DATA_SUFFIXES


def _from_here(path: Path) -> str:
    """Relative to the current folder where it lies in it."""
    whole = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
