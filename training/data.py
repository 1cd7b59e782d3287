"""Labelled text, or text alone, as one value with every row's place of origin."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.cells import CLASSES, Cells, Labels, as_name
from adaptive.errors import DataError
from adaptive.text import inputs
from adaptive.training.files import Places, Table
from adaptive.training.labels import known_hint, number_groups, number_labels
from adaptive.training.sources import cells as cells_of
from adaptive.training.sources import read_frame, read_frames, read_source
from adaptive.training.splits import POOL
from adaptive.types import Groups

if TYPE_CHECKING:
    from adaptive.config.recipe import DataConfig, OnBadRow

logger = logging.getLogger(__name__)

SHOWN = 5  # faults told in full


@dataclass(frozen=True, slots=True)
class Dataset:
    """Texts with what is known of them."""

    texts: list[str]  # [n]
    pairs: list[str] | None  # [n] second texts
    labels: Labels | None  # [n, ...], as `cells` make them; -1 in a pool; None = unlabelled
    label_names: tuple[str, ...]  # [c]
    # [n] train, validation or test where the source tells, and pool, see `with_pool`
    split: NDArray[np.str_] | None
    places: Places
    groups: Mapping[str, Groups] = field(default_factory=dict)  # by column
    cells: Cells = CLASSES  # how the labels were read

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        """Where the rows come from, how many and of which labels; no text."""
        known = "unlabelled" if self.labels is None else f"{len(self.label_names)} labels"
        names = ", ".join(self.label_names[:6])
        more = ", .." if len(self.label_names) > 6 else ""
        told = f": {names}{more}" if self.labels is not None and names else ""
        pairs = "pairs of texts" if self.pairs is not None else "texts"
        return f"<Dataset {self.name}: {len(self):,} {pairs}, {known}{told}>"

    @property
    def name(self) -> str:
        """The files or tables the texts come from."""
        return ", ".join(table.name for table in self.places.tables)

    @property
    def items(self) -> list[Any]:
        """The texts, or the pairs of texts, as a pipeline takes them, [n]."""
        if self.pairs is None:
            return list(self.texts)
        return list(zip(self.texts, self.pairs, strict=True))

    def take(self, rows: NDArray[np.integer[Any]]) -> Dataset:
        """The given rows, in the given order."""
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            pairs=None if self.pairs is None else [self.pairs[row] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
            split=None if self.split is None else self.split[rows],
            places=self.places.take(rows),
            groups={column: each.take(rows) for column, each in self.groups.items()},
        )

    def with_labels(self, names: Sequence[str], rename: Mapping[str, str] | None = None) -> Dataset:
        """The same texts with labels in another order, such as a fine-tuned model's.

        Args:
            names: the labels.
            rename: what raw labels are called among them.

        Raises:
            DataError: a row whose label is not among `names`; names file and row.
        """
        if self.labels is None:
            return replace(self, label_names=tuple(names))
        own = [(rename or {}).get(name, name) for name in self.label_names]
        index = {name: number for number, name in enumerate(names)}
        new = np.array([index.get(name, -1) for name in own], dtype=np.int32)
        strange = self.cells.nameless(self.labels, new)
        unknown = np.flatnonzero(strange >= 0)
        if len(unknown):
            label = own[strange[unknown[0]]]
            raise DataError(
                f"{self.places[int(unknown[0])]}: its label (length {len(label)}) is not one "
                f"of the {len(names)} known labels{known_hint(label, names)}"
            )
        labels = self.cells.renumbered(self.labels, new, len(names))
        return replace(self, labels=labels, label_names=tuple(names))

    @property
    def strata(self) -> NDArray[np.int32] | None:
        """Numbers [n] that rows of like labels share; None where there are none."""
        return None if self.labels is None else self.cells.strata(self.labels)

    def labels_or_unknown(self, classes: int) -> Labels:
        """The labels; where there are none, what says that they are not known."""
        return self.cells.unknown(len(self), classes) if self.labels is None else self.labels

    def with_classes(self, column: str) -> Dataset:
        """The same texts, their labels being groups too, under that name.

        Raises:
            DataError: there are no labels, or they are not of one class each.
        """
        if self.labels is None or self.cells != CLASSES:
            raise DataError(f"{self.name}: there are no labels to tell classes by")
        classes = Groups(self.label_names, self.labels)
        return replace(self, groups={**self.groups, column: classes})


def load_data(
    config: DataConfig, seed: int = 0, groups: Sequence[str] = (), cells: Cells = CLASSES
) -> Dataset:
    """The data a recipe names; `seed` is for `limit` where the recipe's data have none.

    Args:
        groups: columns that divide the rows.
        cells: what the label column may hold.

    Raises:
        DataError: a source, file, row or label that is wrong, by name.
    """
    wanted = [config.text, config.pair, config.label, *config.where, *groups]
    columns = list(dict.fromkeys(column for column in wanted if column is not None))
    try:
        tables = read_source(config, columns)
        data = _assemble(
            tables,
            config.text,
            config.pair,
            config.label,
            config.where,
            config.rename,
            groups,
            config.on_bad_row,
            cells,
        )
    except DataError as error:
        if config.label and f"no column {config.label!r}" in str(error):
            raise DataError(f"{error} (`label: null` takes the text alone)") from None
        raise
    if config.limit is None or config.limit >= len(data):
        return data
    random = np.random.default_rng(seed if config.seed is None else config.seed)
    return data.take(np.sort(random.choice(len(data), config.limit, replace=False)))


def with_pool(data: Dataset, pool: Dataset) -> Dataset:
    """The data, and behind them texts without labels that search and certify are dealt from.

    Raises:
        DataError: one has pairs of texts and the other does not.
    """
    if (data.pairs is None) != (pool.pairs is None):
        raise DataError(f"{data.name}, {pool.name}: one has pairs of texts, the other single texts")
    split = np.full(len(data), "train") if data.split is None else data.split
    labels = np.full(len(data), -1, np.int32) if data.labels is None else data.labels
    places, more = data.places, pool.places
    return Dataset(
        texts=[*data.texts, *pool.texts],
        pairs=None if data.pairs is None or pool.pairs is None else [*data.pairs, *pool.pairs],
        labels=np.concatenate([labels, np.full(len(pool), -1, np.int32)]),
        label_names=data.label_names,
        split=np.concatenate([split, np.full(len(pool), POOL)]),
        places=Places(
            (*places.tables, *more.tables),
            np.concatenate([places.table, more.table + np.int32(len(places.tables))]),
            np.concatenate([places.row, more.row]),
        ),
    )


def from_memory(
    texts: Sequence[str] | Any,
    labels: Sequence[str | int] | Any = None,
    pairs: Sequence[str] | Any = None,
    groups: Mapping[str, Sequence[str | int] | Any] | None = None,
    cells: Cells = CLASSES,
) -> Dataset:
    """Data from lists, arrays or the columns of data frames.

    Args:
        groups: other columns by name, that divide the rows.
        cells: what labels may be.

    Raises:
        DataError: columns of unlike length, or a wrong row, by its number (from 1).
    """
    if isinstance(texts, str):
        raise DataError("expected a sequence of texts, found a single one")
    given = {**(groups or {}), "text": texts, "label": labels, "pair": pairs}
    columns = {name: cells_of(column) for name, column in given.items() if column is not None}
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
        cells=cells,
    )


def from_frame(
    frame: Any,
    *,
    text: str = "text",
    label: str | None = "label",
    pair: str | None = None,
    groups: Sequence[str] = (),
    cells: Cells = CLASSES,
) -> Dataset:
    """Data from a pandas or polars frame, a `datasets.Dataset`, or a mapping of such by split.

    Args:
        groups: columns that divide the rows.
        cells: what the label column may hold.

    Raises:
        DataError: a missing column, or a wrong row, by its number (from 1).
    """
    columns = [column for column in (text, pair, label, *groups) if column is not None]
    if isinstance(frame, Mapping):
        tables = read_frames(frame, columns)
    else:
        tables = [read_frame(frame, "data", columns)]
    return _assemble(tables, text, pair, label, groups=groups, cells=cells)


def _assemble(
    tables: Sequence[Table],
    text: str,
    pair: str | None,
    label: str | None,
    where: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
    on_bad_row: OnBadRow = "stop",
    cells: Cells = CLASSES,
) -> Dataset:
    places = _places(tables, where or {})
    texts = [text] if pair is None else [text, pair]
    wanted = {*texts, *groups} if label is None else {*texts, label, *groups}
    columns = {name: _column(name, places) for name in wanted}
    faults = _faults(columns, places, texts, label, groups, cells)
    if faults and on_bad_row == "stop":
        raise DataError(_told(faults, places))
    if faults:
        logger.warning("rows skipped: %d\n%s", len(faults), _told(faults, places))
        good = [index for index in range(len(places)) if index not in faults]
        columns = {name: [values[i] for i in good] for name, values in columns.items()}
        places = places.take(np.asarray(good, dtype=np.int64))
    if not len(places):
        shown = ", ".join(table.name for table in tables)
        raise DataError(f"{shown}: no rows" + (f" where {dict(where)}" if where else ""))
    labels: Labels | None = None
    names: tuple[str, ...] = ()
    if label is not None:
        labels, names = number_labels(cells, columns[label], places, rename or {})
    split = None
    if tables[0].member is not None:
        split = np.array([table.member for table in tables])[places.table]
    first, second = ([str(value) for value in columns[name]] for name in (text, pair or text))
    divided = {name: number_groups(name, columns[name]) for name in groups}
    second_or_none = None if pair is None else second
    return Dataset(first, second_or_none, labels, names, split, places, divided, cells)


def _places(tables: Sequence[Table], where: Mapping[str, str]) -> Places:
    """Rows with the wanted values, compared as text, and those that could not be read."""
    kept: list[Sequence[int]] = []
    for table in tables:
        rows: Sequence[int] = range(len(table))
        for name, wanted in where.items():
            values = table.columns[name]
            rows = [row for row in rows if row in table.faults or as_name(values[row]) == wanted]
        kept.append(rows)
    return Places(
        tuple(tables),
        np.repeat(np.arange(len(tables), dtype=np.int32), [len(rows) for rows in kept]),
        np.concatenate([np.asarray(rows, dtype=np.int64) for rows in kept]),
    )


def _column(name: str, places: Places) -> list[Any]:
    values = [table.columns[name] for table in places.tables]
    where = zip(places.table.tolist(), places.row.tolist(), strict=True)
    return [values[table][row] for table, row in where]


def _faults(
    columns: Mapping[str, Sequence[Any]],
    places: Places,
    texts: Sequence[str],
    label: str | None,
    groups: Sequence[str],
    cells: Cells,
) -> dict[int, str]:
    """Why rows are refused, by their number among all."""
    faulty = any(table.faults for table in places.tables)
    rows = range(len(places) if faulty else 0)
    faults = {i: why for i in rows if (why := places.fault(i)) is not None}
    checks = [(name, _text_fault) for name in texts]
    checks += [] if label is None else [(label, cells.fault)]
    checks += [(name, _group_fault) for name in groups]
    for name, reason in checks:
        where = "" if name in (texts[0], label) else f" in column {name!r}"
        for index, value in enumerate(columns[name]):
            if index not in faults and (why := reason(value)) is not None:
                faults[index] = why + where
    return dict(sorted(faults.items()))


def _text_fault(value: Any) -> str | None:
    reason = inputs.fault(value)
    return "empty text" if reason is None and not str(value).strip() else reason


def _group_fault(value: Any) -> str | None:
    return None if as_name(value) else "no group"


def _told(faults: Mapping[int, str], places: Places) -> str:
    """The first faults in full, the others as their number."""
    lines = [f"{places[index]}: {why}" for index, why in list(faults.items())[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"and {len(faults) - SHOWN} more rows")
    return "\n".join(lines)
