"""Labelled text, or text alone, as one value with every row's place of origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive import inputs
from adaptive.config.faults import nearest
from adaptive.errors import DataError
from adaptive.training.files import Places, Table
from adaptive.training.sources import cells, read_frame, read_frames, read_source
from adaptive.types import Groups

if TYPE_CHECKING:
    from adaptive.config.recipe import DataConfig

_SHOWN = 5  # faults told in full


@dataclass(frozen=True, slots=True)
class Dataset:
    """Texts with what is known of them."""

    texts: list[str]  # [n]
    pairs: list[str] | None  # [n] second texts
    labels: NDArray[np.int32] | None  # [n]; None = unlabelled
    label_names: tuple[str, ...]  # [c]
    split: NDArray[np.str_] | None  # [n] train, validation or test where the source tells
    places: Places
    groups: Mapping[str, Groups] = field(default_factory=dict)  # by column

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def name(self) -> str:
        """The files or tables the texts come from."""
        return ", ".join(table.name for table in self.places.tables)

    def take(self, rows: NDArray[np.integer[Any]]) -> Dataset:
        """The given rows, in the given order."""
        return Dataset(
            texts=[self.texts[row] for row in rows],
            pairs=None if self.pairs is None else [self.pairs[row] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
            label_names=self.label_names,
            split=None if self.split is None else self.split[rows],
            places=replace(self.places, table=self.places.table[rows], row=self.places.row[rows]),
            groups={column: each.take(rows) for column, each in self.groups.items()},
        )

    def with_labels(self, names: Sequence[str]) -> Dataset:
        """The same texts with labels in another order, such as a fine-tuned model's.

        Raises:
            DataError: a row whose label is not among `names`; names file and row.
        """
        if self.labels is None:
            return replace(self, label_names=tuple(names))
        index = {name: number for number, name in enumerate(names)}
        new = np.array([index.get(name, -1) for name in self.label_names], dtype=np.int32)
        labels = new[self.labels]
        unknown = np.flatnonzero(labels < 0)
        if len(unknown):
            label = self.label_names[self.labels[unknown[0]]]
            raise DataError(
                f"{self.places[int(unknown[0])]}: label {label!r} is not one of the "
                f"{len(names)} known labels{_hint(label, names)}"
            )
        return replace(self, labels=labels, label_names=tuple(names))

    def with_classes(self, column: str) -> Dataset:
        """The same texts, their labels being groups too, under that name.

        Raises:
            DataError: there are no labels.
        """
        if self.labels is None:
            raise DataError(f"{self.name}: there are no labels to tell classes by")
        classes = Groups(self.label_names, self.labels)
        return replace(self, groups={**self.groups, column: classes})


def load_data(config: DataConfig, seed: int = 0, groups: Sequence[str] = ()) -> Dataset:
    """The data a recipe names; `seed` is for `limit` where the recipe's data have none.

    Args:
        groups: columns that divide the rows.

    Raises:
        DataError: a source, file, row or label that is wrong, by name.
    """
    wanted = [config.text, config.pair, config.label, *config.where, *groups]
    columns = list(dict.fromkeys(column for column in wanted if column is not None))
    try:
        tables = read_source(config, columns)
    except DataError as error:
        if config.label and f"no column {config.label!r}" in str(error):
            raise DataError(f"{error} (`label: null` takes the text alone)") from None
        raise
    data = _assemble(
        tables, config.text, config.pair, config.label, config.where, config.rename, groups
    )
    if config.limit is None or config.limit >= len(data):
        return data
    random = np.random.default_rng(seed if config.seed is None else config.seed)
    return data.take(np.sort(random.choice(len(data), config.limit, replace=False)))


def from_memory(
    texts: Sequence[str] | Any,
    labels: Sequence[str | int] | Any = None,
    pairs: Sequence[str] | Any = None,
    groups: Mapping[str, Sequence[str | int] | Any] | None = None,
) -> Dataset:
    """Data from lists, arrays or the columns of data frames.

    Args:
        groups: other columns by name, that divide the rows.

    Raises:
        DataError: columns of unlike length, or a wrong row, by its number (from 1).
    """
    if isinstance(texts, str):
        raise DataError("expected a sequence of texts, found a single one")
    given = {**(groups or {}), "text": texts, "label": labels, "pair": pairs}
    columns = {name: cells(column) for name, column in given.items() if column is not None}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} in {name}" for name, length in lengths.items())
        raise DataError(f"columns of unlike length: {told}")
    table = Table("data", None, columns, None)
    return _assemble(
        [table],
        "text",
        "pair" if "pair" in columns else None,
        "label" if "label" in columns else None,
        groups=list(groups or ()),
    )


def from_frame(
    frame: Any,
    *,
    text: str = "text",
    label: str | None = "label",
    pair: str | None = None,
    groups: Sequence[str] = (),
) -> Dataset:
    """Data from a pandas or polars frame, a `datasets.Dataset`, or a mapping of such by split.

    Args:
        groups: columns that divide the rows.

    Raises:
        DataError: a missing column, or a wrong row, by its number (from 1).
    """
    columns = [column for column in (text, pair, label, *groups) if column is not None]
    if isinstance(frame, Mapping):
        tables = read_frames(frame, columns)
    else:
        tables = [read_frame(frame, "data", columns)]
    return _assemble(tables, text, pair, label, groups=groups)


def _assemble(
    tables: Sequence[Table],
    text: str,
    pair: str | None,
    label: str | None,
    where: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
) -> Dataset:
    kept = [_matching(table, where or {}) for table in tables]
    sizes = [len(rows) for rows in kept]
    if not sum(sizes):
        shown = ", ".join(table.name for table in tables)
        raise DataError(f"{shown}: no rows" + (f" where {dict(where)}" if where else ""))
    places = Places(
        tuple(tables),
        np.repeat(np.arange(len(tables), dtype=np.int32), sizes),
        np.concatenate([np.asarray(rows, dtype=np.int64) for rows in kept]),
    )

    def column(name: str) -> list[Any]:
        return [
            table.columns[name][row]
            for table, rows in zip(tables, kept, strict=True)
            for row in rows
        ]

    texts = _texts(column(text), places)
    pairs = None if pair is None else _texts(column(pair), places)
    labels: NDArray[np.int32] | None = None
    names: tuple[str, ...] = ()
    if label is not None:
        labels, names = _labels(column(label), places, rename or {})
    split = None
    if tables[0].member is not None:
        split = np.array([table.member for table in tables])[places.table]
    divided = {name: _groups(name, column(name), places) for name in groups}
    return Dataset(texts, pairs, labels, names, split, places, divided)


def _matching(table: Table, where: Mapping[str, str]) -> Sequence[int]:
    """Rows with the wanted values, compared as text."""
    rows: Sequence[int] = range(len(table))
    for name, wanted in where.items():
        rows = [row for row in rows if _as_name(table.columns[name][row]) == wanted]
    return rows


def _texts(values: Sequence[Any], places: Places) -> list[str]:
    def reasons() -> Iterator[tuple[int, str]]:
        for index, value in enumerate(values):
            reason = inputs.fault(value)
            if reason is None and not value.strip():
                reason = "empty text"
            if reason is not None:
                yield index, reason

    _refuse(dict(reasons()), places)
    return [str(value) for value in values]


def _labels(
    values: Sequence[Any], places: Places, rename: Mapping[str, str]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    found = [_as_name(value) for value in values]
    _refuse({i: _label_fault(values[i]) for i, name in enumerate(found) if not name}, places)
    raw = {name for name in found if name}
    strange, absent = raw - rename.keys(), rename.keys() - raw
    if rename and strange and absent:
        name = min(absent)
        raise DataError(
            f"{places.tables[0].name}: rename names the label {name!r}, which no row has"
            f"{_hint(name, sorted(strange))}"
        )
    new = [rename.get(name, name) for name in found if name]
    # The renamed first, in the order given; the others sorted, as numbers if all are.
    given = [name for old, name in rename.items() if old in raw]
    names = tuple(dict.fromkeys([*given, *_ordered(set(new) - set(given))]))
    index = {name: number for number, name in enumerate(names)}
    return np.fromiter((index[name] for name in new), np.int32, len(new)), names


def _groups(column: str, values: Sequence[Any], places: Places) -> Groups:
    found = [_as_name(value) for value in values]
    why = f"no group in column {column!r}"
    _refuse({i: why for i, name in enumerate(found) if not name}, places)
    names = tuple(_ordered({name for name in found if name}))
    index = {name: number for number, name in enumerate(names)}
    return Groups(names, np.array([index[name] for name in found if name], dtype=np.int32))


def _hint(name: str, known: Sequence[str]) -> str:
    """The nearest of the known labels, or all of them where they are few."""
    hint = nearest(name, known)
    return hint if hint.endswith("?") or len(known) <= 20 else ""


def _ordered(names: set[str]) -> list[str]:
    if all(name.removeprefix("-").isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _as_name(value: Any) -> str | None:
    """A cell as a label's name: text and whole numbers; None for anything else."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return None


def _label_fault(value: Any) -> str:
    if value is None or isinstance(value, str) or (isinstance(value, float) and value != value):
        return "no label"
    hint = "; give names or whole numbers" if isinstance(value, float) else ""
    return f"the label is a {type(value).__name__}{hint}"


def _refuse(faults: Mapping[int, str], places: Places) -> None:
    if not faults:
        return
    lines = [f"{places[index]}: {why}" for index, why in list(faults.items())[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"and {len(faults) - _SHOWN} more rows")
    raise DataError("\n".join(lines))
