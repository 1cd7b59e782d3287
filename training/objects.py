"""JSON: an object a line, or a list of objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adaptive.errors import DataError
from adaptive.training.records import Lines, Row, begins, missing, undecoded

Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def read_jsonl(lines: Lines, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    """The rows of a file with an object a line."""
    number = 0
    keys = [json.dumps(column) for column in columns]
    for line in lines:
        lines.begin()
        if not line.strip():
            continue
        number += 1
        fault = undecoded([line])
        found: Any = None
        if fault is None:
            twice = any(line.count(key) > 1 for key in keys)
            found, fault = _parsed(line, _unique if twice else None)
        yield _row(number, lines.number, found, fault, columns, optional)


def _parsed(text: str, pairs: Pairs | None = None) -> tuple[Any, str | None]:
    """A JSON value, or why it is none; `pairs` makes objects, which takes its time."""
    try:
        return json.loads(text, object_pairs_hook=pairs), None
    except json.JSONDecodeError as error:
        return None, f"malformed JSON at character {error.pos + 1}"
    except _TwiceError:
        return None, "a key stands twice in an object"
    except (ValueError, RecursionError):
        return None, "malformed JSON"


def read_json(
    name: str, first: str, lines: Lines, columns: Sequence[str], optional: Sequence[str]
) -> Iterator[Row]:
    """The rows of a list of objects, or of objects a line, which `first` of them tells.

    Raises:
        DataError: neither of the two.
    """
    if begins(first, "{") and _parsed(first)[1] is None:
        return read_jsonl(lines, columns, optional)  # as many call it, too
    text = list(lines)
    fault = undecoded(text)
    found: Any = None
    if fault is None and text:
        found, fault = _parsed("".join(text), _unique)
    if fault is not None:
        raise DataError(f"{name}: {fault}")
    if not isinstance(found, list | None):
        raise DataError(f"{name}: expected a list of objects, or an object a line")
    return (_row(n, None, each, None, columns, optional) for n, each in enumerate(found or [], 1))


def _row(
    number: int,
    line: int | None,
    found: Any,
    fault: str | None,
    columns: Sequence[str],
    optional: Sequence[str],
) -> Row:
    """An object of JSON as a row."""
    if fault is None and not isinstance(found, dict):
        fault = f"expected an object, found {type(found).__name__}"
    if fault is not None:
        return Row(number, line, (None,) * (len(columns) + len(optional)), fault)
    for column in columns:
        if column not in found:
            fault = missing(column, list(found))
            break
    cells = [found.get(name) for name in columns]
    if optional:
        cells += [found.get(name) for name in optional]
    return Row(number, line, tuple(cells), fault)


class _TwiceError(Exception):
    """A key stands twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError
    return found
