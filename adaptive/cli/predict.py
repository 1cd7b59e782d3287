"""`adaptive predict`: rows in, one JSON line a row out, in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adaptive.cli.rows import Row, chunks, read_rows
from adaptive.cli.session import Session, dumps

Pipeline = Callable[..., Any]


def predict(
    pipeline: Pipeline,
    session: Session,
    *,
    file: str,
    output: Path | None,
    text: str,
    pair: str | None,
) -> int:
    """Answers every row of `file` (`-` is stdin); returns how many rows were refused.

    A row that cannot be answered gives `{"error", "row"}` in its place, its batch-mates are
    answered all the same.
    """
    refused = total = 0
    with _reading(file) as source, _writing(output) as sink, _progress(session) as advance:
        for chunk in chunks(read_rows(source, text, pair)):
            for line in answer_rows(pipeline, chunk):
                refused += "error" in line
                sink.write(dumps(line) + "\n")
            sink.flush()
            total += len(chunk)
            advance(total)
    session.note(f"{total} rows, {refused} refused")
    return refused


def answer_rows(pipeline: Pipeline, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What each row is answered, in order."""
    items = [row.item for row in rows if row.fault is None]
    answers = iter(pipeline(items, errors="return") if items else ())
    for row in rows:
        answer = {"error": row.fault} if row.fault is not None else next(answers)
        yield {"error": answer["error"], "row": row.number} if "error" in answer else answer


@contextmanager
def _reading(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
    else:
        with Path(file).open("rb") as source:
            yield source


@contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
    else:
        with output.open("w", encoding="utf-8") as sink:
            yield sink


@contextmanager
def _progress(session: Session) -> Iterator[Callable[[int], None]]:
    """Counts rows on stderr, where that is a terminal."""
    if not session.bars:
        yield lambda rows: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows", total=None)
        yield lambda rows: progress.update(task, completed=rows)
