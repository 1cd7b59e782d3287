"""Files that commands write: never in place of what is read, see also `adaptive.outputs`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from adaptive.errors import ConfigError
from adaptive.outputs import is_special

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
    if not is_special(output) and not os.access(folder, os.W_OK):
        raise ConfigError(f"{name}: the folder {output.parent} cannot be written to")
    for each in inputs:
        bundle = Path(each).resolve()
        if (bundle / "manifest.json").is_file() and folder.is_relative_to(bundle):
            raise ConfigError(f"{name}: lies in the bundle, which holds its own files alone")


def _identity(file: int | str | Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where it is no plain file."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
