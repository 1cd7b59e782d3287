"""Rows of a file of any form, as plain mappings."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adaptive.errors import DataError
from adaptive.recorded.faults import Faults

Row = tuple[int, dict[str, Any]]  # its number, from 1, and what it holds
FORMS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def form_of(path: Path) -> str | None:
    """The ending that tells what a file holds; None where it is none of `FORMS`."""
    name = path.name.lower().removesuffix(".gz")
    return next((form for form in FORMS if name.endswith(form)), None)


def read_rows(path: Path, faults: Faults) -> list[Row]:
    """The rows of a file; those that cannot be read become faults.

    Raises:
        DataError: the file cannot be read at all, or its ending says nothing.
    """
    form = form_of(path)
    if form is None:
        raise DataError(f"{path}: expected a name that ends in {', '.join(FORMS)} (or these + .gz)")
    try:
        if form == ".parquet":
            return _parquet(path)
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw).decode(
            "utf-8-sig"
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or 'damaged'}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    if form in (".csv", ".tsv"):
        return list(_csv(text, "\t" if form == ".tsv" else ",", faults))
    if form == ".json":
        return list(_json(text, path, faults))
    return list(_lines(text, faults))


def _lines(text: str, faults: Faults) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            faults.add(number, "is no JSON")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            faults.add(number, "is no JSON object")


def _json(text: str, path: Path, faults: Faults) -> Iterator[Row]:
    try:
        values = json.loads(text)
    except ValueError:
        yield from _lines(text, faults)  # JSON lines under another name
        return
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a list of JSON objects, or a JSON object a line")
    for number, value in enumerate(values, 1):
        if isinstance(value, dict):
            yield number, value
        else:
            faults.add(number, "is no JSON object")


def _csv(text: str, delimiter: str, faults: Faults) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            faults.add(number + 1, "is no CSV: a quotation mark that does not belong")
            return
        if header is None:
            header = row
            if len(set(header)) < len(header) or not all(header):
                raise DataError(
                    f"{faults.name}: the header has an empty name or one that stands twice"
                )
            continue
        if not row:
            continue
        number += 1
        if len(row) != len(header):
            faults.add(number, f"has {len(row)} fields; the header has {len(header)}")
            continue
        yield number, dict(zip(header, row, strict=True))


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow; pip install 'adaptive-cascade[parquet]'"
        ) from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # pyarrow's own errors derive from several builtins
        raise DataError(f"{path}: is no Parquet file ({type(error).__name__})") from None
    return list(enumerate(rows, 1))
