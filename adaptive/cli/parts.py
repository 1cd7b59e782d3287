"""Answers in parts, a Parquet file each, so that an interrupted run goes on where it stopped.

A part is some thousand rows of the input that follow each other. Its file is written whole or not
at all, so the files that are there tell which parts are done.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from adaptive.cli.predict import answer_items
from adaptive.cli.rows import Item
from adaptive.cli.session import dumps
from adaptive.errors import ConfigError
from adaptive.outputs import replacing

PART_ROWS = 4096
JOB = "job.json"
_TOP = pa.struct([("label", pa.string()), ("score", pa.float64())])
_ROUTING = pa.struct(
    [
        *((name, pa.string()) for name in ("tier", "entered", "unit", "promise")),
        *((name, pa.int64()) for name in ("exit", "depth", "windows")),
        *((name, pa.float64()) for name in ("reliability", "cost")),
        *((name, pa.bool_()) for name in ("abstained", "truncated", "covered")),
        ("labels", pa.list_(pa.string())),
    ]
)


def schema(kept: Sequence[str]) -> pa.Schema:
    """The columns of every part: `row` counts the input's from 1, kept cells are text."""
    return pa.schema(
        [
            ("row", pa.int64()),
            *((name, pa.string()) for name in kept),
            ("label", pa.string()),
            ("score", pa.float64()),
            ("top_k", pa.list_(_TOP)),
            ("routing", _ROUTING),
            ("error", pa.string()),
        ]
    )


def packed(items: Sequence[Item]) -> str:
    """Items as text that another machine reads."""
    return json.dumps([[each.number, each.text, each.fault, _cells(each.kept)] for each in items])


def unpacked(text: str) -> list[Item]:
    """What `packed` was given; kept cells are text now."""
    return [
        Item(number, tuple(given) if isinstance(given, list) else given, fault, kept)
        for number, given, fault, kept in json.loads(text)
    ]


def _cells(kept: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        name: cell if cell is None or isinstance(cell, str) else dumps(cell)
        for name, cell in kept.items()
    }


def answered(
    pipeline: Callable[..., Any], items: Sequence[Item], options: Mapping[str, Any]
) -> bytes:
    """The answers of a part, as the file that is to be written."""
    lines = answer_items(pipeline, items, options)
    rows = [{**line, "row": item.number} for item, line in zip(items, lines, strict=True)]
    names = list(items[0].kept) if items else []
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema(names)), sink)
    return sink.getvalue()


def open_folder(folder: Path, job: Mapping[str, Any]) -> frozenset[int]:
    """The parts that are done of this job in a folder, which is made where there is none.

    Raises:
        ConfigError: the folder holds something else.
    """
    file = folder / JOB
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        unlike = sorted(name for name in {*job, *found} if job.get(name) != found.get(name))
        if unlike:
            raise ConfigError(
                f"--output {folder}: holds answers of another run, which differs in "
                f"{', '.join(unlike)}; name another folder"
            )
        return done(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--output {folder}: is no folder of answers; name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
    return frozenset()


def done(folder: Path) -> frozenset[int]:
    """The parts whose answers are in a folder."""
    return frozenset(int(each.stem.removeprefix("part-")) for each in _parts(folder))


def write(folder: Path, number: int, content: bytes) -> None:
    """A part's file."""
    with replacing(folder / f"part-{number:06d}.parquet") as part:
        part.write_bytes(content)


def counted(folder: Path) -> tuple[int, int]:
    """Rows answered in a folder, and how many of them were refused."""
    errors = [parquet.read_table(each, columns=["error"]).column(0) for each in _parts(folder)]
    rows = sum(len(each) for each in errors)
    return rows, rows - sum(each.null_count for each in errors)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))
