"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A file to write instead of `output`, in whose place it is put when all went well.

    Devices and pipes are written themselves.
    """
    if is_special(output):
        yield output
        return
    goal = output.resolve()  # a link is kept, and its file replaced
    part = goal.with_name(f".{goal.stem}.{uuid.uuid4().hex}.part{goal.suffix}")
    try:
        yield part
        if goal.exists():
            shutil.copymode(goal, part)
        os.replace(part, goal)
    finally:
        part.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether it exists and is no file that another could take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()
