"""Readers of CSV, JSONL and Parquet. Values come as they stand in the file, text as text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.config.faults import nearest
from adaptive.errors import DataError

SUFFIXES = (".csv", ".jsonl", ".parquet")
_LONGEST_FIELD = 2**31 - 1  # characters; csv refuses fields of more than 2**17 by itself


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one file, data frame or list."""

    name: str  # as errors tell it
    member: str | None  # train, validation or test where the source has such parts
    columns: Mapping[str, Sequence[Any]]  # each [n]
    lines: Sequence[int] | None  # [n] line of the file where each row begins

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


def read_file(path: Path, columns: Sequence[str], member: str | None = None) -> Table:
    """The named columns of a file.

    Raises:
        DataError: a file that is missing, of another kind, not UTF-8, malformed, or without
            one of the columns; names the file and, where there is one, the row.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected one of {', '.join(SUFFIXES)}")
    try:
        return reader(path, columns, member)
    except UnicodeDecodeError:
        raise DataError(_wrong_encoding(path)) from None


def require(name: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Refuses a source without one of the wanted columns.

    Raises:
        DataError: names the missing column, those found and the nearest of them.
    """
    for column in wanted:
        if column not in found:
            shown = [_short(each) for each in found]
            hint = nearest(column, shown)
            listing = f" Found: {', '.join(shown)}" if hint.endswith("?") else ""
            raise DataError(f"{name}: no column {column!r}{hint}{listing}")
        if list(found).count(column) > 1:
            raise DataError(f"{name}: {list(found).count(column)} columns are named {column!r}")


def _short(name: str) -> str:
    """A column's name; cut, since in a file without a header it is somebody's text."""
    return name if len(name) <= 40 else name[:39] + "…"


def _read_csv(path: Path, columns: Sequence[str], member: str | None) -> Table:
    values: dict[str, list[Any]] = {column: [] for column in columns}
    lines: list[int] = []
    with path.open(encoding="utf-8-sig", newline="") as file, _long_fields():
        reader = csv.reader(file, strict=True)
        try:
            header = next((row for row in reader if row), [])
            require(str(path), columns, header)
            places = [(values[column], header.index(column)) for column in columns]
            begin = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) != len(header):
                        raise DataError(
                            f"{path}, row {len(lines) + 1} (line {begin}): {len(row)} fields, the "
                            f"header has {len(header)}; texts with commas need quotes"
                        )
                    for column, index in places:
                        column.append(row[index])
                    lines.append(begin)
                begin = reader.line_num + 1
        except csv.Error as error:
            place = f"{path}, row {len(lines) + 1} (line {reader.line_num})"
            raise DataError(f"{place}: malformed CSV, {error}") from None
    return Table(str(path), member, values, lines)


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_jsonl(path: Path, columns: Sequence[str], member: str | None) -> Table:
    values: dict[str, list[Any]] = {column: [] for column in columns}
    lines: list[int] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}, row {len(lines) + 1} (line {number})"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                what = getattr(error, "msg", type(error).__name__)
                raise DataError(f"{place}: malformed JSON, {what}") from None
            if not isinstance(row, dict):
                raise DataError(f"{place}: expected an object, found {type(row).__name__}")
            require(place, columns, list(row))
            for column in columns:
                values[column].append(row[column])
            lines.append(number)
    return Table(str(path), member, values, lines)


def _read_parquet(path: Path, columns: Sequence[str], member: str | None) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet needs pyarrow; pip install 'adaptive-cascade[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            require(str(path), columns, file.schema_arrow.names)
            table = file.read(columns=list(columns))
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: malformed Parquet, {type(error).__name__}") from error
    return Table(str(path), member, {each: table[each].to_pylist() for each in columns}, None)


def _wrong_encoding(path: Path) -> str:
    """Where the file stops being UTF-8; the decoder itself only knows its place in a block."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return (
            f"{path}, line {line}: not UTF-8, byte 0x{content[error.start]:02x} at offset "
            f"{error.start}; convert the file, for instance: iconv -f LATIN1 -t UTF-8"
        )
    return f"{path}: not UTF-8"
