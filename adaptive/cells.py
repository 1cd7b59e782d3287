"""What the cells of a label column may hold, and the labels that they become.

A reader of files knows no models, so this is the part of a task (`adaptive.tasks`) that it needs.
Labels of n rows are one array, whose shape and dtype are those of the kind of cell.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive.scalars import is_missing, is_whole, plain

Labels = NDArray[Any]  # [n, ...]


class Cells(Protocol):
    """How a column of labels is read."""

    @property
    def named(self) -> bool:
        """Whether cells name classes."""

    def fault(self, value: Any) -> str | None:
        """Why a cell is no label, in words that do not quote it; None if it is one."""

    def names(self, value: Any) -> tuple[str, ...]:
        """The classes that a cell without fault names."""

    def doubt(self, names: Mapping[str, int]) -> tuple[int, str] | None:
        """A row that says that cells were read in a wrong way, and why; None where none does.

        Args:
            names: all that cells name, each with the first row that has it.
        """

    def labels(self, values: Sequence[Any], index: Mapping[str, int]) -> Labels:
        """The labels of cells without fault; `index` has the number of each class they name."""

    def unknown(self, rows: int, classes: int) -> Labels:
        """Labels of so many rows of which nothing is known."""

    def renumbered(self, labels: Labels, new: NDArray[np.int32], classes: int) -> Labels:
        """The labels with other numbers for classes.

        Args:
            new: each class's among so many `classes`; below 0 where it has none.
        """

    def nameless(self, labels: Labels, new: NDArray[np.int32]) -> NDArray[np.int64]:
        """A class without a new number that each row has, [n]; -1 where it has none such."""

    def strata(self, labels: Labels) -> NDArray[np.int32] | None:
        """Numbers [n] that rows of like labels share, so that splits get as many of each.

        Below 0 where the label is not known; None where labels have no such numbers.
        """


def known(labels: Labels) -> NDArray[np.bool_]:
    """Whether each row's label is known, [n]: no NaN, and no number of a class below 0."""
    found: NDArray[np.bool_] = (
        ~np.isnan(labels) if labels.dtype.kind == "f" else np.asarray(labels >= 0)
    )
    if found.ndim > 1:
        found = np.asarray(found.reshape(len(labels), -1).all(1))
    return found


def known_labels(labels: Labels) -> bool:
    """Whether the label of every row is known."""
    return bool(known(labels).all())


def unknown_like(labels: Labels, rows: int) -> Labels:
    """Labels of so many rows of which nothing is known, of the given ones' shape and dtype."""
    nothing = np.nan if labels.dtype.kind == "f" else -1
    return np.full((rows, *labels.shape[1:]), nothing, labels.dtype)


def as_name(value: Any) -> str | None:
    """A cell as a name: text and whole numbers; None for anything else."""
    value = plain(value)
    if isinstance(value, str):
        return str(value) if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if is_whole(value) else None


def label_fault(value: Any) -> str | None:
    """Why a cell names no class; None if it does."""
    if as_name(value) is not None:
        return None
    if value is None or isinstance(value, str) or is_missing(value):
        return "no label"
    hint = "; give names or whole numbers" if isinstance(value, numbers.Real) else ""
    return f"the label is a {type(value).__name__}{hint}"


@dataclass(frozen=True, slots=True)
class ClassCells:
    """One class a row: labels are int32 [n], -1 where not known."""

    @property
    def named(self) -> bool:
        """They name classes."""
        return True

    def fault(self, value: Any) -> str | None:
        """See `label_fault`."""
        return label_fault(value)

    def names(self, value: Any) -> tuple[str, ...]:
        """The one."""
        return (str(as_name(value)),)

    def doubt(self, names: Mapping[str, int]) -> tuple[int, str] | None:
        """None."""
        return None

    def labels(self, values: Sequence[Any], index: Mapping[str, int]) -> Labels:
        """[n]."""
        return np.fromiter((index[str(as_name(value))] for value in values), np.int32, len(values))

    def unknown(self, rows: int, classes: int) -> Labels:
        """[rows] of -1."""
        return np.full(rows, -1, np.int32)

    def renumbered(self, labels: Labels, new: NDArray[np.int32], classes: int) -> Labels:
        """[n]; a label that is not known stays so."""
        return np.where(labels < 0, np.int32(-1), new[labels])

    def nameless(self, labels: Labels, new: NDArray[np.int32]) -> NDArray[np.int64]:
        """The label itself, where it has no new number."""
        return np.where((labels >= 0) & (new[labels] < 0), labels, -1).astype(np.int64)

    def strata(self, labels: Labels) -> NDArray[np.int32] | None:
        """The labels themselves."""
        return labels


CLASSES = ClassCells()
_MARKS = (",", ";", "|", "/", "\t", " ")  # that people separate labels by


@dataclass(frozen=True, slots=True)
class SetCells:
    """Any number of classes a row: labels are int8 [n, c] of 0 and 1, -1 where not known.

    A cell is a list of names (JSON, Parquet), or one text of names with a separator between them
    (CSV). An empty list or text has no class; a cell that is missing is not known, and refused.
    """

    separator: str = "|"

    @property
    def named(self) -> bool:
        """They name classes."""
        return True

    def fault(self, value: Any) -> str | None:
        """Missing; a name that is empty or stands twice; or what is no list of names."""
        value = _listed(value)
        if value is None or is_missing(value):
            return "no list of labels; an empty one says that a text has none"
        parts = self._parts(value)
        if parts is None:
            return f"the labels are a {type(value).__name__}; give a list of names, or one text"
        for number, part in enumerate(parts, 1):
            if fault := label_fault(part):
                return f"label {number} of {len(parts)}: {fault}"
        names = [as_name(part) for part in parts]
        if len(set(names)) < len(names):
            return f"one of its {len(names)} labels stands twice"
        return None

    def names(self, value: Any) -> tuple[str, ...]:
        """All of them."""
        return tuple(str(as_name(part)) for part in self._parts(_listed(value)) or ())

    def doubt(self, names: Mapping[str, int]) -> tuple[int, str] | None:
        """A name that another separator cuts into names of other rows."""
        for mark in _MARKS:
            for name, row in names.items():
                parts = [part.strip() for part in name.split(mark)]
                if len(parts) > 1 and all(part in names for part in parts):
                    return row, (
                        f"the label holds {mark!r} between what other rows have as labels of their "
                        f"own, and labels are separated by {self.separator!r}; set task.separator"
                    )
        return None

    def _parts(self, value: Any) -> Sequence[Any] | None:
        if isinstance(value, str):
            return [part.strip() for part in value.split(self.separator)] if value.strip() else ()
        if isinstance(value, list | tuple):
            return value
        return [value] if as_name(value) is not None else None  # a whole number

    def labels(self, values: Sequence[Any], index: Mapping[str, int]) -> Labels:
        """[n, c]."""
        found = np.zeros((len(values), max(index.values(), default=-1) + 1), np.int8)
        for row, value in enumerate(values):
            for name in self.names(value):
                found[row, index[name]] = 1
        return found

    def unknown(self, rows: int, classes: int) -> Labels:
        """[rows, classes] of -1."""
        return np.full((rows, classes), -1, np.int8)

    def renumbered(self, labels: Labels, new: NDArray[np.int32], classes: int) -> Labels:
        """[n, classes]; classes that become one are united."""
        told = known(labels)
        found = np.where(told[:, None], 0, -1) * np.ones(classes, np.int8)
        for old, number in enumerate(new.tolist()):
            if number >= 0:
                found[told, number] |= labels[told, old]
        return found.astype(np.int8)

    def nameless(self, labels: Labels, new: NDArray[np.int32]) -> NDArray[np.int64]:
        """The first such class of each row."""
        strange = (labels > 0) & (new < 0)
        return np.where(strange.any(1), strange.argmax(1), -1).astype(np.int64)

    def strata(self, labels: Labels) -> NDArray[np.int32] | None:
        """The rarest of a row's classes, so that train gets rows of each; c of rows without any."""
        often = (labels > 0).sum(0)
        order = np.argsort(often, kind="stable")  # rarest first
        has = labels[:, order] > 0
        found = np.where(has.any(1), order[has.argmax(1)], labels.shape[1])
        return np.where(known(labels), found, -1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class NumberCells:
    """A number a row: labels are float32 [n], NaN where not known."""

    low: float = -np.inf  # the scale, both ends included
    high: float = np.inf

    @property
    def named(self) -> bool:
        """There are no classes."""
        return False

    def fault(self, value: Any) -> str | None:
        """Missing, no number, or outside the scale."""
        if value is None or (isinstance(value, str) and not value.strip()) or is_missing(value):
            return "no value"
        found = _number(value)
        if found is None or not np.isfinite(found):
            return "the value is no finite number"
        if not self.low <= found <= self.high:
            return f"the value is outside the scale from {self.low:g} to {self.high:g}"
        return None

    def names(self, value: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def doubt(self, names: Mapping[str, int]) -> tuple[int, str] | None:
        """None."""
        return None

    def labels(self, values: Sequence[Any], index: Mapping[str, int]) -> Labels:
        """[n]."""
        return np.array([_number(value) for value in values], np.float32)

    def unknown(self, rows: int, classes: int) -> Labels:
        """[rows] of NaN."""
        return np.full(rows, np.nan, np.float32)

    def renumbered(self, labels: Labels, new: NDArray[np.int32], classes: int) -> Labels:
        """As they are."""
        return labels

    def nameless(self, labels: Labels, new: NDArray[np.int32]) -> NDArray[np.int64]:
        """None."""
        return np.full(len(labels), -1, np.int64)

    def strata(self, labels: Labels) -> NDArray[np.int32] | None:
        """None."""
        return None


def _listed(value: Any) -> Any:
    """A cell as Python's own value; an array of numpy as a list."""
    value = plain(value)
    return value.tolist() if getattr(value, "ndim", 0) == 1 and hasattr(value, "tolist") else value


def _number(value: Any) -> float | None:
    """A cell as a number; text too, as it stands in CSV."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
