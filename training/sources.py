"""Where data comes from: a file, a folder, an installed package, a hub, a data frame."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.errors import DataError
from adaptive.scalars import is_whole
from adaptive.training.files import Table, read_file
from adaptive.training.opening import SUFFIXES, form_of, stem_of
from adaptive.training.records import require

if TYPE_CHECKING:
    from adaptive.config.recipe import DataConfig

MEMBERS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_source(config: DataConfig, columns: Sequence[str]) -> list[Table]:
    """The named columns of everything the source holds.

    Raises:
        DataError: a source that cannot be found or read.
    """
    if config.source.startswith("package:"):
        folder = _package(config.source.removeprefix("package:"))
        return [read_file(_only_file(folder, config), columns)]
    path = Path(config.source).expanduser()
    if path.is_dir():
        if config.file is not None:
            return [read_file(_inside(path, config.file), columns)]
        return [read_file(each, columns, member) for member, each in _members(path).items()]
    if form_of(path) or path.exists():
        return [read_file(path, columns)]
    if _HUB_ID.fullmatch(config.source):
        return _hub(config, columns)
    raise DataError(f"{config.source}: no such file or folder, and not a data set's id on the hub")


def read_frame(frame: Any, name: str, columns: Sequence[str], member: str | None = None) -> Table:
    """Columns of a pandas or polars data frame, or of a `datasets.Dataset`.

    Raises:
        DataError: a missing column.
    """
    found = list(frame.columns if hasattr(frame, "columns") else frame.column_names)
    require(name, columns, [str(each) for each in found])
    own = {str(each): each for each in found}
    features = getattr(frame, "features", None)  # of a data frame, a column of that name
    values = {}
    for column in columns:
        values[column] = cells(frame[own[column]])
        feature = features.get(column) if isinstance(features, Mapping) else None
        classes = getattr(feature, "names", None)
        if classes is not None:
            values[column] = [_class_name(each, classes) for each in values[column]]
    return Table(name, member, values, None)


def _class_name(value: Any, classes: Sequence[str]) -> str | None:
    """A class label of the hub is a number: -1 or nothing where the label is withheld."""
    known = is_whole(value) and 0 <= value < len(classes)
    return classes[int(value)] if known else None


def member_of(name: str) -> str | None:
    """train, validation or test; None for any other name."""
    return MEMBERS.get(name.lower())


def cells(column: Any) -> list[Any]:
    """A column's values as Python's own types."""
    for way in ("tolist", "to_list"):
        if hasattr(column, way):
            return list(getattr(column, way)())
    return list(column)


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    if not name.isidentifier():
        raise DataError(f"package:{name}: expected the import name of a top-level package")
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise DataError(f"package:{name}: no such package is installed")
    if not spec.submodule_search_locations:
        raise DataError(f"package:{name}: is a single module and holds no data files")
    return Path(next(iter(spec.submodule_search_locations)))


def _only_file(folder: Path, config: DataConfig) -> Path:
    if config.file is not None:
        return _inside(folder, config.file)
    # .json beside data mostly holds settings
    found = sorted(path for path in folder.rglob("*") if form_of(path) not in (None, "", ".json"))
    if len(found) == 1:
        return found[0]
    listing = ", ".join(str(path.relative_to(folder)) for path in found[:10]) or "none"
    raise DataError(
        f"{config.source}: expected one data file, found {len(found)} ({listing}); "
        "name one with `file`"
    )


def _inside(folder: Path, file: str) -> Path:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{file}: lies outside {folder}")
    return path


def _members(folder: Path) -> dict[str, Path]:
    """The train, validation and test files of a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        member = member_of(stem_of(path))
        if member is None or not form_of(path):
            continue
        if member in found:
            raise DataError(f"{folder}: both {found[member].name} and {path.name} are {member}")
        found[member] = path
    if not found:
        raise DataError(
            f"{folder}: expected train, validation and test files ({', '.join(SUFFIXES)}); "
            "name a single file with `file`"
        )
    return found


def _hub(config: DataConfig, columns: Sequence[str]) -> list[Table]:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{config.source}: no such file or folder; to load it as a data set of the hub, "
            "pip install 'adaptive-cascade[hub]'"
        ) from None
    try:
        parts = datasets.load_dataset(
            config.source, name=config.name, revision=config.revision, data_files=config.file
        )
    except Exception as error:  # no common root: connection, lookup, parsing, configuration
        # what other errors say may quote rows
        about = f": {error}" if isinstance(error, OSError) or type(error) is ValueError else ""
        raise DataError(
            f"{config.source}: the hub's data set could not be loaded: "
            f"{type(error).__name__}{about}"
        ) from None
    tables = read_frames(parts, columns, config.source)
    if config.label is None:
        return tables
    told = [t for t in tables if any(label is not None for label in t.columns[config.label])]
    if not told:
        raise DataError(f"{config.source}: the labels of all parts are withheld")
    return told


def read_frames(
    parts: Mapping[str, Any], columns: Sequence[str], name: str | None = None
) -> list[Table]:
    """The train, validation and test parts; parts of other names are left aside.

    Raises:
        DataError: none of the parts is one of the three, or one lacks a column.
    """
    tables: dict[str, Table] = {}
    for part, frame in parts.items():
        member = member_of(part)
        if member is not None and member not in tables:
            shown = part if name is None else f"{name}, {part}"
            tables[member] = read_frame(frame, shown, columns, member)
    if not tables:
        found = ", ".join(sorted(parts))
        raise DataError(f"{name or 'data'}: expected train, validation or test, found: {found}")
    return list(tables.values())
