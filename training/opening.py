"""Files of text as they lie on disk: which form they have, packed by gzip or not, as text."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from adaptive.config.paths import DATA_SUFFIXES
from adaptive.errors import DataError

FORMS = tuple(each for each in DATA_SUFFIXES if each not in (".gz", ".parquet"))
SUFFIXES = (*FORMS, *(f"{form}.gz" for form in FORMS), ".parquet")
STDIN = "-"
_GZIP = b"\x1f\x8b"
_OTHERS = {  # how files begin that are no text
    b"PK\x03\x04": "a zip archive, such as an Excel workbook",
    b"PAR1": "Parquet, and not named .parquet",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}
_MARKS = {  # byte order marks, the longer ones first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def form_of(path: str | Path) -> str | None:
    """One of `FORMS` or `.parquet`, by the name; "" where it has no suffix, None for others."""
    suffixes = [each.lower() for each in Path(path).suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if not suffixes:
        return ""
    return suffixes[-1] if suffixes[-1] in (*FORMS, ".parquet") else None


def stem_of(path: Path) -> str:
    """The name without what tells form and packing: `train` of `train.csv.gz`."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return name.stem


@contextmanager
def open_text(file: str | Path) -> Iterator[TextIO]:
    """A file's text, unpacked where it is gzip; `-` is stdin. Line ends stay as they are.

    Bytes that are not UTF-8 become lone surrogates (U+DC80 to U+DCFF).

    Raises:
        DataError: no such file; or one that begins as another format or encoding does. While it
            is read: what gzip packed is damaged.
    """
    with ExitStack() as stack:
        raw: Any = _raw(file, stack)  # has peek, for which there is no common type
        if raw.peek(2)[:2] == _GZIP:
            raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif str(file).lower().endswith(".gz"):
            raise DataError(f"{file}: is named .gz and is not gzip; rename it")
        try:
            _refuse_others(str(file), bytes(raw.peek(4096)[:4096]))
            text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")
            stack.callback(text.detach)  # else it would close stdin with itself
            yield text
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DataError(f"{file}: damaged gzip, or cut off; copy the file anew") from None


def _raw(file: str | Path, stack: ExitStack) -> Any:
    if file != STDIN:
        try:
            return stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise DataError(f"{file}: {reason}") from None
    stdin: Any = sys.stdin.buffer
    if hasattr(stdin, "peek"):
        return stdin
    own = io.BufferedReader(stdin)
    stack.callback(own.detach)
    return own


def _refuse_others(name: str, start: bytes) -> None:
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"{name}: is {what}; expected text, such as CSV in UTF-8")
    found = next((each for mark, each in _MARKS.items() if start.startswith(mark)), None)
    zeros = sorted((start[0::2].count(0), start[1::2].count(0)))
    if found is None and zeros[0] == 0 and zeros[1] > len(start) // 8:
        found = "UTF-16"  # of which every second byte of ASCII is zero
    if found is None and b"\0" in start.split(b"\n", 1)[0]:
        raise DataError(f"{name}: holds zero bytes, so it is no text; expected UTF-8")
    if found is not None:
        raise DataError(
            f"{name}: is {found}, expected UTF-8; convert the file, for instance: "
            f"iconv -f {found} -t UTF-8"
        )
