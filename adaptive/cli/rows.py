"""Rows of a CSV or JSONL stream, one after another, good or bad."""

from __future__ import annotations

import csv
import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from adaptive import inputs
from adaptive.errors import DataError

CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 4 * 1024 * 1024  # so that a chunk of long texts stays small, too
FIELD_CHARACTERS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input: an item for the pipeline, or why there is none."""

    number: int  # from 1, a CSV's header not counted
    item: str | tuple[str, ...] | None = None
    fault: str | None = None


def read_rows(stream: BinaryIO, text: str, pair: str | None) -> Iterator[Row]:
    """Rows of UTF-8 CSV (with a header) or JSONL (an object a line); blank lines are skipped.

    Which of the two it is shows in the first character that is no white space: `{` starts
    JSONL. Bytes that are not UTF-8 become lone surrogates, which make a fault.

    Args:
        stream: read once, line by line.
        text: column or key of the text.
        pair: column or key of the second text, None for single texts.

    Raises:
        DataError: a CSV's header lacks a column.
    """
    lines = (line.decode("utf-8", "surrogateescape") for line in stream)
    first = next((line for line in lines if line.strip("\ufeff \t\r\n")), None)
    if first is None:
        return
    every = itertools.chain([first.removeprefix("\ufeff")], lines)
    wanted = (text,) if pair is None else (text, pair)
    reader = _jsonl if first.lstrip("\ufeff \t").startswith("{") else _csv
    for number, (record, fault) in enumerate(reader(every, wanted), start=1):
        fault = fault or _fault(record, wanted)
        if fault is not None:
            yield Row(number, fault=fault)
        else:
            values = tuple(record[name] for name in wanted)
            yield Row(number, values[0] if pair is None else values)


def chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in lists of bounded count and size."""
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        parts = row.item if isinstance(row.item, tuple) else (row.item,)
        characters += sum(len(part) for part in parts if part is not None)
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


Record = tuple[Mapping[str, Any], str | None]


def _jsonl(lines: Iterator[str], wanted: tuple[str, ...]) -> Iterator[Record]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            yield {}, "not valid JSON"
            continue
        if isinstance(record, dict):
            yield record, None
        else:
            yield {}, f"expected a JSON object, found {type(record).__name__}"


def _csv(lines: Iterator[str], wanted: tuple[str, ...]) -> Iterator[Record]:
    csv.field_size_limit(FIELD_CHARACTERS)
    reader = csv.reader(lines)
    header = next(reader, [])
    for name in wanted:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise DataError(f"no column {name!r} in the header{hint}; found {header}")
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield {}, f"not valid CSV: {error}"
            continue
        if fields is None:
            return
        if len(fields) > len(header):
            yield {}, f"{len(fields)} fields, the header has {len(header)}"
        elif fields:
            yield dict(zip(header, fields, strict=False)), None


def _fault(record: Mapping[str, Any], wanted: tuple[str, ...]) -> str | None:
    absent = [repr(name) for name in wanted if name not in record]
    if absent:
        return f"no {' and no '.join(absent)}"
    faults = ((name, inputs.fault(record[name])) for name in wanted)
    return next((f"{name}: {why}" for name, why in faults if why is not None), None)
