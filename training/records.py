"""Rows of files as every reader gives them, and what readers share.

A row that cannot be read is a fault in its place, and the rows behind it are read. No fault
quotes what stands in a file: it may be a text, a header's names included.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from adaptive.errors import DataError

BLANK = "\ufeff \t\r\n"


class Row(NamedTuple):  # made a million times, which a dataclass takes three times as long for
    """One row of a file: its cells, or why there are none."""

    number: int  # from 1; headers and blank lines are not counted
    line: int | None  # of the file where the row begins, from 1; None where there are no lines
    cells: tuple[Any, ...]  # of the columns asked for; None where they cannot be read
    fault: str | None = None


class Lines:
    """Lines of a text, counted. Those taken since `begin` can be given back."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0  # of the line taken last, from 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._text)
        self.number += 1
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """Forget what was taken: a new row begins."""
        self.taken.clear()

    def give_back(self, *lines: str) -> None:
        """Let the lines taken last be read again."""
        given = [line for line in lines if line]
        self._back.extendleft(reversed(given))
        self.number -= len(given)
        self.taken.clear()


def begins(line: str, bracket: str) -> bool:
    """Whether the first character that is not blank is this one."""
    return line.lstrip(BLANK).startswith(bracket)


def undecoded(lines: Iterable[str]) -> str | None:
    """Where the lines are not UTF-8."""
    for line in lines:
        if line.isascii():
            continue
        try:
            line.encode()
        except UnicodeEncodeError as error:
            byte = ord(line[error.start]) - 0xDC00
            return (
                f"not UTF-8, byte 0x{byte:02x} at character {error.start + 1} of the line; convert "
                "the file from what it is in, for instance: iconv -f WINDOWS-1252 -t UTF-8 (texts "
                "of Western Europe), or -f GB18030 (Chinese)"
            )
    return None


def missing(column: str, found: Sequence[str]) -> str:
    """That a column is not there, telling others by their place: their names may be texts."""
    told = f"no column {column!r} among {len(found)}"
    near = difflib.get_close_matches(column.lower(), [each.lower() for each in found], n=1)
    if not near:
        return told
    place = [each.lower() for each in found].index(near[0])
    return f"{told}; the nearest is column {place + 1} (length {len(found[place])})"


def require(name: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Refuses a source without one of the wanted columns, or with two of its name.

    Raises:
        DataError: names the column, and the place of the nearest.
    """
    for column in wanted:
        if column not in found:
            raise DataError(f"{name}: {missing(column, found)}")
        if found.count(column) > 1:
            raise DataError(f"{name}: {found.count(column)} columns are named {column!r}")
