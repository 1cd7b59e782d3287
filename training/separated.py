"""CSV, strictly: fields parted by commas or another character, quoted where they hold one."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from adaptive.errors import DataError
from adaptive.training.records import Lines, Row, begins, missing, require, undecoded

logger = logging.getLogger(__name__)

LONGEST_FIELD = 2**26  # characters; csv refuses fields of more than 2**17 by itself
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}


def read_csv(name: str, lines: Lines, columns: Sequence[str], form: str) -> Iterator[Row]:
    """The rows of a file with a header; `name` and `form` are the file's, see `open_rows`.

    Raises:
        DataError: the header is malformed or lacks one of the columns.
    """
    separator, header = _header(name, lines, columns, "\t" if form == ".tsv" else ",")
    places = [header.index(column) for column in columns]
    return _csv_rows(lines, separator, len(header), places)


def _csv_rows(lines: Lines, separator: str, width: int, places: Sequence[int]) -> Iterator[Row]:
    begun = _Begun(lines)
    reader = csv.reader(begun, delimiter=separator, strict=True)
    number, nothing = 0, (None,) * len(places)
    while True:
        lines.begin()
        whole = next(lines, None)
        if whole is None:
            return
        line, fault = lines.number, None
        fields = None if '"' in whole else _plain_fields(whole, separator)
        if fields is None:
            begun.line = whole
            try:
                fields = next(reader)
            except csv.Error as error:
                fault = _malformed(error)
                if all(_begins_anew(each, separator) for each in lines.taken[1:]):
                    lines.give_back(*lines.taken[1:])
        if fields == []:  # a blank line
            continue
        number += 1
        fault = undecoded(lines.taken) or fault
        if fault is None and fields is not None and len(fields) != width:
            told = f"{len(fields)} fields, the header has {width}"
            fault = f"{told}; texts with {SEPARATORS[separator]} need quotes"
        if fault is not None or fields is None:
            yield Row(number, line, nothing, fault)
        else:
            yield Row(number, line, tuple([fields[place] for place in places]))


class _Begun:
    """Lines, of which one was taken already and comes first."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.line: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self.line = self.line, None
        return next(self._lines) if line is None else line


def _plain_fields(line: str, separator: str) -> list[str] | None:
    """The fields of a line without quotes, as csv reads them; None where csv would refuse it.

    Splitting is faster than csv on lines that are counted.
    """
    body = line.removesuffix("\n").removesuffix("\r")
    if "\r" in body or len(body) > LONGEST_FIELD:
        return None
    return body.split(separator) if body else []


def _begins_anew(line: str, separator: str) -> bool:
    """Whether a line inside a broken quotation looks like a row of its own.

    The quotation was then opened by mistake in the line where it begins, and that line alone is
    refused. A line that closes the quotation in the middle of a field belongs to it.
    """
    at = line.find('"')
    return line.count('"') % 2 == 0 or at == 0 or line[at - 1] == separator


def _header(name: str, lines: Lines, columns: Sequence[str], usual: str) -> tuple[str, list[str]]:
    """The separator and the header read by it."""
    found: dict[str, list[str]] = {}
    declared = _declared(lines)
    for separator in [declared] if declared else dict.fromkeys([usual, *SEPARATORS]):
        try:
            rows = csv.reader(lines, delimiter=separator, strict=True)
            header = next(row for row in rows if row)
        except (csv.Error, StopIteration):
            lines.give_back(*lines.taken)
            continue
        if fault := undecoded(lines.taken):
            raise DataError(f"{name}, line {lines.number}: {fault}")
        if set(columns) <= set(header):
            require(name, columns, header)
            if separator != usual:
                logger.info("%s: read as separated by %s", name, SEPARATORS[separator])
            return separator, header
        found[separator] = header
        first = lines.taken[0]
        lines.give_back(*lines.taken)
    if not found:
        raise DataError(f"{name}, line 1: the header is malformed CSV, a quote is never closed")
    header = max(found.values(), key=len)
    absent = next(column for column in columns if column not in header)
    if begins(first, "{") or begins(first, "["):
        hint = "the file begins as JSON does; name it .jsonl or .json"
    else:
        hint = (
            "expected a first line that names the columns; other columns are named by --text, "
            "--pair and --label, or in a recipe's data"
        )
    raise DataError(f"{name}: {missing(absent, header)}; {hint}")


def _declared(lines: Lines) -> str | None:
    """The separator that spreadsheets write into a line before the header, `sep=;`."""
    first = next(lines)
    told = first.strip().strip('"').lower()
    if told[:4] == "sep=" and told[4:] in SEPARATORS:
        lines.begin()
        return told[4:]
    lines.give_back(first)
    return None


def _malformed(error: csv.Error) -> str:
    told = str(error)
    if "expected after" in told:
        return 'malformed CSV, text behind a closing quote; write " inside quotes as ""'
    if "unexpected end" in told:
        return "malformed CSV, a quote that is opened is never closed"
    if "field limit" in told:
        return f"malformed CSV, a field of more than {LONGEST_FIELD:,} characters"
    return "malformed CSV"


@contextmanager
def long_fields() -> Iterator[None]:
    """Lets fields be as long as texts are."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
