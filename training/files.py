"""A file as a table. Values come as they stand in the file, text as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.training.reading import open_rows


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one file, data frame or list."""

    name: str  # as errors tell it
    member: str | None  # train, validation or test where the source has such parts
    columns: Mapping[str, Sequence[Any]]  # each [n]
    lines: Sequence[int] | None  # [n] line of the file where each row begins
    faults: Mapping[int, str] = field(default_factory=dict)  # rows that could not be read, from 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def place(self, row: int) -> str:
        """File and row (from 1, headers not counted) as errors tell them."""
        line = "" if self.lines is None else f" (line {self.lines[row]})"
        return f"{self.name}, row {row + 1}{line}"


@dataclass(frozen=True, slots=True)
class Places:
    """Which file and row each text came from."""

    tables: tuple[Table, ...]
    table: NDArray[np.int32]  # [n]
    row: NDArray[np.int64]  # [n] row in its table, from 0

    def __getitem__(self, index: int) -> str:
        table = self.tables[int(self.table[index])]
        return table.place(int(self.row[index]))

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[np.integer[Any]]) -> Places:
        """The given rows, in the given order."""
        return replace(self, table=self.table[rows], row=self.row[rows])

    def fault(self, index: int) -> str | None:
        """Why the row could not be read."""
        return self.tables[int(self.table[index])].faults.get(int(self.row[index]))


def read_file(path: Path, columns: Sequence[str], member: str | None = None) -> Table:
    """The named columns of a file; rows that cannot be read have no values and a fault.

    Raises:
        DataError: as `adaptive.training.reading.open_rows` and its rows do.
    """
    with open_rows(path, columns) as rows:
        found = list(rows)
    cells = [row.cells for row in found]
    values = {name: [each[place] for each in cells] for place, name in enumerate(columns)}
    known = [row.line for row in found if row.line is not None]
    faults = {index: row.fault for index, row in enumerate(found) if row.fault is not None}
    return Table(str(path), member, values, known if len(known) == len(found) else None, faults)
