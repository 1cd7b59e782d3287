"""The manifest: size and SHA-256 of every other file, checked before anything is constructed.

It tells a damaged or incomplete bundle from a whole one. It does not tell who made it: whoever
can change a file can change the manifest.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive.bundle.files import inspect, read_json, write_json
from adaptive.bundle.layout import FILE_LIMIT, FORMAT, IGNORED, LAYOUT, checked_path
from adaptive.errors import BundleError


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one file."""

    sha256: str
    size: int  # bytes


def seal(folder: Path) -> None:
    """Write the manifest for what the folder holds now; the last step of writing a bundle.

    Call it again after editing the model card by hand. Raises BundleError where the folder
    holds something that no bundle may hold.
    """
    folder = folder.resolve()
    files = [name for name in sorted(_walk(folder)) if name != LAYOUT.manifest]
    entries: dict[str, Any] = {}
    for name in files:
        path = folder / checked_path(name, name)
        inspect(path, name)
        entries[name] = {"sha256": sha256(path), "size": path.stat().st_size}
    write_json(folder / LAYOUT.manifest, {"format": FORMAT, "files": entries})


def verify(folder: Path) -> dict[str, Entry]:
    """Check a folder against its manifest, and every file for being what its name says.

    Nothing is constructed. Returns the entries by path.

    Raises:
        BundleError: naming the file, where one is missing, changed, unlisted, outside of the
            folder or not what it says; or where the format is not one this version reads.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder.name}: is not a folder")
    folder = folder.resolve()
    if not (folder / LAYOUT.manifest).is_file():
        raise BundleError(f"{LAYOUT.manifest}: is missing, so this is no bundle or half of one")
    _check_link(folder, LAYOUT.manifest)
    document = read_json(folder / LAYOUT.manifest, LAYOUT.manifest)
    check_format(document, LAYOUT.manifest)
    entries = _entries(document)
    found = _walk(folder)
    for name in sorted(entries.keys() - found):
        raise BundleError(f"{name}: the file is missing, though the manifest lists it")
    for name in sorted(found - entries.keys() - {LAYOUT.manifest}):
        raise BundleError(f"{name}: is not listed in the manifest; remove it or seal the bundle")
    for name in LAYOUT.required:
        if name not in entries:
            raise BundleError(f"{name}: the file is missing")
    for name, entry in entries.items():
        _check_file(folder, name, entry)
    return entries


def check_format(document: dict[str, Any], name: str) -> None:
    """Raise BundleError unless the document's format is one that this version reads."""
    found = document.get("format")
    if type(found) is not int or found < 1:
        raise BundleError(f"{name}: no format number; expected an integer from 1 to {FORMAT}")
    if found > FORMAT:
        raise BundleError(
            f"{name}: format {found} is newer than {FORMAT}, the newest this version reads; "
            "upgrade adaptive-cascade"
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entries(document: dict[str, Any]) -> dict[str, Entry]:
    files = document.get("files")
    if not isinstance(files, dict) or len(files) > FILE_LIMIT:
        raise BundleError(f"{LAYOUT.manifest}: `files` must be an object of at most {FILE_LIMIT}")
    entries: dict[str, Entry] = {}
    for name, entry in files.items():
        checked_path(name, LAYOUT.manifest)
        digest, size = (
            (entry.get("sha256"), entry.get("size")) if isinstance(entry, dict) else (0,) * 2
        )
        if not isinstance(digest, str) or type(size) is not int:
            raise BundleError(f"{LAYOUT.manifest}: {name!r} needs a sha256 and a size")
        entries[name] = Entry(digest, size)
    return entries


def _walk(folder: Path) -> set[str]:
    """Every file below the folder, as paths with `/`; folder links are refused."""
    found: set[str] = set()
    for base, folders, files in os.walk(folder):
        here = Path(base)
        if here == folder:
            folders[:] = [name for name in folders if name not in IGNORED]
            files = [name for name in files if name not in IGNORED]
        for name in folders:
            if (here / name).is_symlink():
                raise BundleError(f"{(here / name).relative_to(folder).as_posix()}: is a link")
        found.update((here / name).relative_to(folder).as_posix() for name in files)
        if len(found) > FILE_LIMIT + 1:
            raise BundleError(f"{folder.name}: more than {FILE_LIMIT} files, so this is no bundle")
    return found


def _check_file(folder: Path, name: str, entry: Entry) -> None:
    path = folder / name
    _check_link(folder, name)
    if not path.is_file():
        raise BundleError(f"{name}: is not a plain file")
    size = path.stat().st_size
    if size != entry.size:
        raise BundleError(f"{name}: {size} bytes, but the manifest says {entry.size}")
    digest = sha256(path)
    if digest != entry.sha256:
        raise BundleError(
            f"{name}: its SHA-256 is {digest}, but the manifest says {entry.sha256}; "
            "the file was changed or damaged"
        )
    inspect(path, name)


def _check_link(folder: Path, name: str) -> None:
    """Refuse a file that is a link to somewhere else."""
    path = folder / name
    if not path.is_symlink():
        return
    goal = Path(os.path.realpath(path))  # unlike resolve, it survives a loop of links
    home = folder
    # The hub's cache keeps snapshots/<revision>/<file> as links into blobs/ of the same repository
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        home = folder.parent.parent / "blobs"
    if not goal.is_relative_to(home):
        raise BundleError(f"{name}: is a link that leaves the folder")
