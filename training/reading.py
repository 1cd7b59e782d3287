"""The one reader of every command: rows of CSV, JSONL, JSON and Parquet, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptive.errors import DataError
from adaptive.training.objects import read_json, read_jsonl
from adaptive.training.opening import SUFFIXES, form_of, open_text
from adaptive.training.records import BLANK, Lines, Row, begins, require
from adaptive.training.separated import long_fields, read_csv


@contextmanager
def open_rows(
    file: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Iterator[Row]]:
    """The rows of a file, read as they are asked for; `-` is stdin.

    The name tells the form; stdin and names without a suffix are JSON if they begin with a
    bracket, else CSV. CSV has a header. Its separator is the comma (of .tsv the tab), or the
    first other one by which the header has the columns; then the log tells. A line `sep=;` before
    the header decides.

    Args:
        columns: whose cells are wanted.
        optional: columns wanted behind these, which an object of JSON may lack: None.

    Raises:
        DataError: no such file; another form or encoding; a header without one of the columns.
    """
    form = form_of(file)
    if form is None:
        raise DataError(f"{file}: expected one of {', '.join(SUFFIXES)}")
    if form == ".parquet":
        with _open_parquet(Path(file), [*columns, *optional]) as rows:
            yield rows
        return
    with open_text(file) as text, long_fields():
        lines = Lines(text)
        first = next((line for line in lines if line.strip(BLANK)), "")
        lines.give_back(first)
        if form in (".jsonl", ".ndjson") or (not form and begins(first, "{")):
            yield read_jsonl(lines, columns, optional)
        elif form == ".json" or (not form and begins(first, "[")):
            yield read_json(str(file), first, lines, columns, optional)
        elif first:
            yield read_csv(str(file), lines, [*columns, *optional], form)
        else:
            yield iter(())


@contextmanager
def _open_parquet(path: Path, columns: Sequence[str]) -> Iterator[Iterator[Row]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
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
            yield _parquet_rows(file.iter_batches(columns=list(columns)), columns)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: malformed Parquet, {type(error).__name__}") from error


def _parquet_rows(batches: Iterable[Any], columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        values = [batch.column(column).to_pylist() for column in columns]
        for cells in zip(*values, strict=True):
            number += 1
            yield Row(number, None, cells)
