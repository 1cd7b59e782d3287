"""Files that commands write: whole or not at all, and never in place of what is read."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adaptive.errors import ConfigError

STDIN = "-"


def check_output(
    output: Path | None, inputs: Sequence[str | Path], option: str = "--output"
) -> None:
    """Refuses what could not be written, or would destroy an input, before anything is read.

    Args:
        output: a file; None is stdout.
        inputs: what the command reads: files, folders, names of other things; `-` is stdin.
        option: that names the file.

    Raises:
        ConfigError: the output is a folder, has none to lie in or none that can be written to,
            is one of the inputs or lies in a bundle.
    """
    name = "stdout" if output is None else f"{option} {output}"
    own = _identity(1 if output is None else output)
    for each in inputs:
        if own is not None and own == _identity(0 if each == STDIN else each):
            raise ConfigError(f"{name}: is the input itself; name another file")
    if output is None:
        return
    if output.is_dir():
        raise ConfigError(f"{name}: is a folder; name a file")
    folder = output.resolve().parent
    if not folder.is_dir():
        raise ConfigError(f"{name}: there is no folder {output.parent}")
    if output.exists() and not os.access(output, os.W_OK):
        raise ConfigError(f"{name}: the file is there and cannot be written to")
    if not _is_special(output) and not os.access(folder, os.W_OK):
        raise ConfigError(f"{name}: the folder {output.parent} cannot be written to")
    for each in inputs:
        bundle = Path(each).resolve()
        if (bundle / "manifest.json").is_file() and folder.is_relative_to(bundle):
            raise ConfigError(f"{name}: lies in the bundle, which holds its own files alone")


def check_workdir(folder: Path) -> None:
    """Refuses a work folder with folders that no step has made: steps would take their place.

    Raises:
        ConfigError: it holds folders, and none that a step has left.
    """
    made = any(folder.glob("*/step.json")) or any(folder.glob("*.partial/inputs.json"))
    if made or not folder.is_dir():
        return
    others = [each.name for each in folder.iterdir() if each.is_dir() and each.name != "log"]
    others = sorted(name for name in others if not name.startswith("."))
    if others:
        raise ConfigError(
            f"--workdir {folder}: holds folders that no build has made ({', '.join(others[:5])}); "
            "name a new or an empty one"
        )


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A file to write instead of `output`, in whose place it is put when all went well.

    Devices and pipes are written themselves.
    """
    if _is_special(output):
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


def _is_special(path: Path) -> bool:
    """Whether it exists and is no file that another could take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _identity(file: int | str | Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where it is no plain file."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
