"""`adaptive predict`: rows in, one JSON line a row out, in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adaptive.cli.rows import Item, chunks, open_items
from adaptive.cli.session import Session, dumps
from adaptive.errors import ConfigError
from adaptive.outputs import replacing

Pipeline = Callable[..., Any]
_OWN = ("label", "score", "routing", "top_k", "error", "row")  # keys of an answer


def predict(
    open_pipeline: Callable[[], Pipeline],
    session: Session,
    *,
    file: str,
    output: Path | None,
    text: str,
    pair: str | None,
    keep: Mapping[str, str],
    options: Mapping[str, Any],
) -> int:
    """Answers every row of `file` (`-` is stdin); returns how many rows were refused.

    A row that cannot be answered gives `{"error", "row"}` in its place, its batch-mates are
    answered all the same.

    Args:
        open_pipeline: called once the file is known to have the columns.
        keep: columns that are passed through, and the keys they get.
        options: of the pipeline's calls.
    """
    refused = total = 0
    with open_items(file, text, pair, keep) as items:
        pipeline = open_pipeline()
        with _writing(output) as sink, progress(session) as advance:
            for chunk in chunks(items):
                for line in answer_items(pipeline, chunk, options):
                    refused += "error" in line
                    sink.write(dumps(line) + "\n")
                sink.flush()
                total += len(chunk)
                advance(total)
    session.note(f"{total} rows, {refused} refused")
    return refused


def read_keep(given: Sequence[str]) -> dict[str, str]:
    """Columns to be passed through, each with its key, from `column` or `column=key`.

    Raises:
        ConfigError: a key is that of an answer, or given twice.
    """
    split = [each.partition("=") for each in given]
    keys = {column: key or column for column, _, key in split}
    for column, key in keys.items():
        if key in _OWN:
            raise ConfigError(
                f"--keep {column}: answers have a key {key!r} of their own; name another, such as "
                f"--keep {column}=own_{key}"
            )
    if len(set(keys.values())) < len(given):
        raise ConfigError("--keep: a column or key is given twice")
    return keys


def answer_items(
    pipeline: Pipeline, items: Sequence[Item], options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What each item is answered, in order, behind what is kept of it."""
    good = [item.text for item in items if item.fault is None]
    answers = iter(pipeline(good, errors="return", **options) if good else ())
    for item in items:
        answer = {"error": item.fault} if item.fault is not None else _flat(next(answers))
        own = {"error": answer["error"], "row": item.number} if "error" in answer else answer
        yield {**item.kept, **own}


def _flat(answer: Any) -> dict[str, Any]:
    """The best label's answer, with the best labels in `top_k` where several were asked for."""
    if isinstance(answer, dict):
        return answer
    top = [{"label": each["label"], "score": each["score"]} for each in answer]
    return {**answer[0], "top_k": top}


@contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with replacing(output) as part, part.open("w", encoding="utf-8") as sink:
        yield sink


@contextmanager
def progress(session: Session) -> Iterator[Callable[[int], None]]:
    """Counts rows on stderr, where that is a terminal."""
    if not session.bars:
        yield lambda rows: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None)
        yield lambda rows: bar.update(task, completed=rows)
