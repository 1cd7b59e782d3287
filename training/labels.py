"""Labels and groups: cells as names, and names as numbers."""

from __future__ import annotations

import difflib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptive.cells import Cells, Labels, as_name
from adaptive.config.faults import nearest
from adaptive.errors import DataError
from adaptive.training.files import Places
from adaptive.types import Groups

logger = logging.getLogger(__name__)

_SHOWN = 5  # pairs of labels told in full
_FEW = 20  # groups that are never too many


def number_labels(
    cells: Cells, values: Sequence[Any], places: Places, rename: Mapping[str, str]
) -> tuple[Labels, tuple[str, ...]]:
    """Labels of cells without fault, and the names of their classes.

    Raises:
        DataError: `rename` misspells a label, or cells were read in a wrong way.
    """
    if not cells.named:
        return cells.labels(values, {}), ()
    raw: dict[str, int] = {}  # name -> the first row that has it
    for row, value in enumerate(values):
        for name in cells.names(value):
            raw.setdefault(name, row)
    doubt = cells.doubt(raw)
    if doubt is not None:
        raise DataError(f"{places[doubt[0]]}: {doubt[1]}")
    strange, absent = [name for name in raw if name not in rename], rename.keys() - raw
    if rename and strange and absent:
        name = min(absent)
        near = difflib.get_close_matches(name, strange, n=1)
        hint = f"; the nearest label is that of {places[raw[near[0]]]}" if near else ""
        raise DataError(
            f"{places.tables[0].name}: rename names the label {name!r}, which no row has, and "
            f"{len(strange)} labels have no name there{hint}"
        )
    first: dict[str, int] = {}
    for name, row in raw.items():
        first.setdefault(rename.get(name, name), row)
    # The renamed first, in the order given; the others sorted, as numbers if all are.
    given = [name for old, name in rename.items() if old in raw]
    names = tuple(dict.fromkeys([*given, *_ordered(set(first) - set(given))]))
    _tell_alike(first, names, places)
    index = {name: number for number, name in enumerate(names)}
    return cells.labels(values, {name: index[rename.get(name, name)] for name in raw}), names


def _tell_alike(first: Mapping[str, int], names: Sequence[str], places: Places) -> None:
    """Log which labels are classes of their own though people would take them for one."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_folded(name), []).append(name)
    for group in [each for each in alike.values() if len(each) > 1][:_SHOWN]:
        rows = "; ".join(places[first[name]] for name in group[:_SHOWN])
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


def known_hint(label: str, names: Sequence[str]) -> str:
    """The known label that is nearest to one of the data, or all where they are few."""
    for name in names:
        if _folded(name) == _folded(label):
            return f"; from {name!r} it differs in outer white space, Unicode form or case alone"
    hint = nearest(label, names)
    return hint if hint.endswith("?") or len(names) <= 20 else ""
