"""Reading and writing the few kinds of file a bundle holds: JSON, safetensors and plain text."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.layout import TEXT_LIMIT
from adaptive.errors import BuildError, BundleError

if TYPE_CHECKING:
    import torch

# The first bytes of what is most often put where weights are expected.
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x93NUMPY": "a numpy array, which may hold pickled objects",
    **{bytes([0x80, protocol]): "a pickle" for protocol in range(2, 6)},
}

_ONNX = b"\x08"  # the tag of an ONNX file's first field, its version


@contextmanager
def telling_disk_faults(what: str, folder: Path) -> Iterator[None]:
    """Makes one error of the ways in which writing and reading files fails: a full disk, say.

    Raises:
        BuildError: naming `what` was being done, the reason, and the space that is left.
    """
    import safetensors

    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BuildError(
            f"{what}: files in {folder} could not be read or written: {reason}. "
            f"{_free(folder)} are free there; make room or choose another folder, and run the same "
            "command again: what is done is kept"
        ) from error


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB"
    except OSError:
        return "unknown amounts"


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        BundleError: no such file, not UTF-8, not an object, a key given twice, NaN or infinity
            as a number; the message calls the file `name`.
    """
    try:
        if path.stat().st_size > TEXT_LIMIT:
            raise BundleError(f"{name}: {path.stat().st_size} bytes, at most {TEXT_LIMIT} allowed")
        found = json.loads(
            path.read_bytes().decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
        )
    except FileNotFoundError:
        raise BundleError(f"{name}: the file is missing") from None
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{name}: is not readable JSON ({_reason(error)})") from None
    if not isinstance(found, dict):
        raise BundleError(f"{name}: expected a JSON object, found {type(found).__name__}")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, readable by people; NaN and infinity are a ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_torch(path: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file on the host, and its metadata; else BundleError."""
    return _read_tensors(path, name, "pt")


def read_numpy(path: Path, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a safetensors file, and its metadata; else BundleError."""
    return _read_tensors(path, name, "np")


def write_numpy(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays and metadata as safetensors."""
    from safetensors.numpy import save_file

    # save_file writes the buffer as it lies in memory, whatever the strides say
    plain = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    save_file(plain, path, metadata=dict(metadata or {}))


def inspect(path: Path, name: str) -> None:
    """Check that a file is what its suffix says, without loading it.

    Raises:
        BundleError: a pickle or an archive in disguise, a safetensors header that does not fit
            the file, JSON that does not parse, text that is not UTF-8, or JSON that asks for
            code to be imported (`auto_map`, as models with remote code do).
    """
    with path.open("rb") as file:
        start = file.read(16)
    for magic, what in _MAGIC.items():
        # A safetensors file begins with its header's length, which could be 0x80 0x02 too
        if start.startswith(magic) and not (path.suffix == ".safetensors" and start[8:9] == b"{"):
            raise BundleError(f"{name}: is {what}, not {path.suffix}; bundles hold no pickles")
    if path.suffix == ".safetensors":
        _check_header(path, name)
    elif path.suffix == ".json":
        if "auto_map" in read_json(path, name):
            raise BundleError(f"{name}: asks for code of its own (auto_map), which is never run")
    elif path.suffix == ".onnx":
        if start[:1] != _ONNX:
            raise BundleError(f"{name}: is no ONNX graph")
    else:
        _check_text(path, name)


def finite(value: Any) -> bool:
    """Whether it is a number, and neither NaN nor infinite. Booleans are no numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_tensors(path: Path, name: str, framework: str) -> tuple[dict[str, Any], dict[str, str]]:
    import safetensors
    from safetensors import safe_open

    try:
        with safe_open(path, framework=framework) as file:
            keys = file.keys()
            return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, TypeError) as error:  # TypeError: no such dtype
        raise BundleError(f"{name}: {error}") from None


def _check_header(path: Path, name: str) -> None:
    import safetensors
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{name}: is not safetensors ({error})") from None


def _check_text(path: Path, name: str) -> None:
    if path.stat().st_size > TEXT_LIMIT:
        raise BundleError(f"{name}: {path.stat().st_size} bytes, at most {TEXT_LIMIT} allowed")
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{name}: is not UTF-8 text (byte {error.start})") from None
    if b"\0" in content:
        raise BundleError(f"{name}: is not text (zero byte at {content.index(0)})")


def _reason(error: Exception) -> str:
    # The decoder's own words may quote the document, which may quote texts
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8, byte {error.start}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")
