"""A work folder serves one build at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from adaptive.errors import BuildError

_LOCK, _HOLDER = ".lock", ".holder.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a work folder against other builds, of this process or of any other.

    The system lets go of it when the process ends, however it ends.

    Raises:
        BuildError: another build holds it; which one is told.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BuildError(
            f"work folder {str(folder)!r} is in use by {_holder(folder)}. Wait until that build is "
            "done, or give this one a folder of its own (--workdir)"
        ) from None
    try:
        content = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        }
        (folder / _HOLDER).write_text(json.dumps(content), encoding="utf-8")
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        told = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f"process {told['process']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError):  # it is just beginning or ending
        return "another build"
