"""Rows of a file or of stdin as items for a pipeline, good or bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from adaptive.text import inputs
from adaptive.training.reading import open_rows
from adaptive.training.records import Row

CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 4 * 1024 * 1024  # so that a chunk of long texts stays small, too


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the input: an item for the pipeline, or why there is none."""

    number: int  # from 1, a CSV's header not counted
    text: str | tuple[str, ...] | None = None
    fault: str | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)  # cells to be passed through


@contextmanager
def open_items(
    file: str, text: str, pair: str | None, keep: Mapping[str, str] | None = None
) -> Iterator[Iterator[Item]]:
    """The items of a file; `-` is stdin.

    Args:
        text: column of the text.
        pair: column of the second text, None for single texts.
        keep: columns to pass through, and what they are to be called.

    Raises:
        DataError: as `adaptive.training.reading.open_rows` does.
    """
    wanted = (text,) if pair is None else (text, pair)
    kept = keep or {}
    with open_rows(file, wanted, tuple(kept)) as rows:
        yield (_item(row, wanted, tuple(kept.values())) for row in rows)


def chunks(items: Iterator[Item], rows: int = CHUNK_ROWS) -> Iterator[list[Item]]:
    """Items in lists of bounded count and size."""
    chunk: list[Item] = []
    characters = 0
    for item in items:
        chunk.append(item)
        parts = item.text if isinstance(item.text, tuple) else (item.text,)
        characters += sum(len(part) for part in parts if part is not None)
        if len(chunk) >= rows or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _item(row: Row, wanted: tuple[str, ...], names: tuple[str, ...]) -> Item:
    cells = row.cells[: len(wanted)]
    kept = dict(zip(names, row.cells[len(wanted) :], strict=True))
    fault = row.fault
    if fault is None:
        faults = ((name, inputs.fault(cell)) for name, cell in zip(wanted, cells, strict=True))
        fault = next((f"{name}: {why}" for name, why in faults if why is not None), None)
    if fault is not None:
        return Item(row.number, fault=fault, kept=kept)
    return Item(row.number, cells[0] if len(cells) == 1 else cells, kept=kept)
