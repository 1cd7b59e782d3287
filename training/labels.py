"""Labels and groups: cells as names, and names as numbers."""

from __future__ import annotations

import difflib
import logging
import numbers
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.config.faults import nearest
from adaptive.errors import DataError
from adaptive.scalars import is_missing, is_whole, plain
from adaptive.training.files import Places
from adaptive.types import Groups

logger = logging.getLogger(__name__)

_SHOWN = 5  # pairs of labels told in full
_FEW = 20  # groups that are never too many


def number_labels(
    values: Sequence[Any], places: Places, rename: Mapping[str, str]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Labels [n] of cells that `label_fault` has nothing against, and their names.

    Raises:
        DataError: `rename` misspells a label.
    """
    found = [str(as_name(value)) for value in values]
    raw = dict.fromkeys(found)
    strange, absent = [name for name in raw if name not in rename], rename.keys() - raw
    if rename and strange and absent:
        name = min(absent)
        near = difflib.get_close_matches(name, strange, n=1)
        hint = f"; the nearest label is that of {places[found.index(near[0])]}" if near else ""
        raise DataError(
            f"{places.tables[0].name}: rename names the label {name!r}, which no row has, and "
            f"{len(strange)} labels have no name there{hint}"
        )
    new = [rename.get(name, name) for name in found]
    # The renamed first, in the order given; the others sorted, as numbers if all are.
    given = [name for old, name in rename.items() if old in raw]
    names = tuple(dict.fromkeys([*given, *_ordered(set(new) - set(given))]))
    _tell_alike(new, names, places)
    index = {name: number for number, name in enumerate(names)}
    return np.fromiter((index[name] for name in new), np.int32, len(new)), names


def _tell_alike(labels: Sequence[str], names: Sequence[str], places: Places) -> None:
    """Log which labels are classes of their own though people would take them for one."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_folded(name), []).append(name)
    for group in [each for each in alike.values() if len(each) > 1][:_SHOWN]:
        rows = "; ".join(places[labels.index(name)] for name in group[:_SHOWN])
        logger.warning(
            "%d labels differ in outer white space, Unicode form or case alone, and are classes of "
            "their own; `rename` makes them one. They stand in: %s",
            len(group),
            rows,
        )


def _folded(label: str) -> str:
    """A label without what people overlook."""
    return unicodedata.normalize("NFKC", label).strip().casefold()


def number_groups(column: str, values: Sequence[Any]) -> Groups:
    """The groups of cells that `as_name` takes, in order.

    Raises:
        DataError: there are so many that they are no groups; the column may be of texts or ids.
    """
    found = [str(as_name(value)) for value in values]
    names = tuple(_ordered(set(found)))
    if len(names) > max(_FEW, len(found) // 2):
        raise DataError(
            f"column {column!r}: {len(names)} different values in {len(found)} rows are too many "
            "for groups; name a column that divides the rows into some"
        )
    index = {name: number for number, name in enumerate(names)}
    return Groups(names, np.array([index[name] for name in found], dtype=np.int32))


def _ordered(names: set[str]) -> list[str]:
    if all(name.removeprefix("-").isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def as_name(value: Any) -> str | None:
    """A cell as a label's name: text and whole numbers; None for anything else."""
    value = plain(value)
    if isinstance(value, str):
        return str(value) if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if is_whole(value) else None


def label_fault(value: Any) -> str | None:
    """Why a cell is no label; None if it is one."""
    if as_name(value) is not None:
        return None
    if value is None or isinstance(value, str) or is_missing(value):
        return "no label"
    hint = "; give names or whole numbers" if isinstance(value, numbers.Real) else ""
    return f"the label is a {type(value).__name__}{hint}"


def known_hint(label: str, names: Sequence[str]) -> str:
    """The known label that is nearest to one of the data, or all where they are few."""
    for name in names:
        if _folded(name) == _folded(label):
            return f"; from {name!r} it differs in outer white space, Unicode form or case alone"
    hint = nearest(label, names)
    return hint if hint.endswith("?") or len(names) <= 20 else ""
