"""`bundle.json`: what the bundle is, readable without loading any weights."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adaptive.bundle.contents import (
    Bundle,
    check_labels,
    check_max_length,
    check_tiers,
    check_title,
    least_labels,
)
from adaptive.bundle.files import read_json, write_json
from adaptive.bundle.layout import FORMAT, LAYOUT
from adaptive.bundle.manifest import check_format
from adaptive.bundle.policies import targets_from_json, targets_to_json
from adaptive.errors import BundleError
from adaptive.tasks import SINGLE_LABEL
from adaptive.types import Target

_FIELDS = frozenset({"format", "name", "labels", "tiers", "max_length", "targets", "info"})
_LIBRARIES = (
    "adaptive-cascade",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "safetensors",
    "onnxruntime",  # where it is installed
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says of itself; see `adaptive.bundle.contents.Bundle` for the fields."""

    name: str
    labels: tuple[str, ...]
    tiers: tuple[str, ...]
    max_length: int
    targets: tuple[Target, ...]
    info: Mapping[str, Any]
    task: str = SINGLE_LABEL.name


def write_header(bundle: Bundle, folder: Path) -> None:
    """Write `bundle.json`; versions of the libraries at work are added to `info`."""
    document = {
        "format": FORMAT,
        "name": bundle.name,
        "labels": list(bundle.labels),
        "tiers": [tier.name for tier in bundle.tiers],
        "max_length": bundle.max_length,
        "targets": targets_to_json(bundle.targets),
        "info": {"versions": library_versions(), **bundle.info},
    }
    if bundle.task != SINGLE_LABEL:
        document["task"] = bundle.task.name
    if bundle.redact:
        document["redact"] = list(bundle.redact)
    write_json(folder / LAYOUT.header, document)


def read_header(folder: Path | str) -> Header:
    """Read `bundle.json` alone. It is checked against the manifest only by `load_bundle`.

    Raises:
        BundleError: it is missing, of a newer format, or a field is wrong.
    """
    name = LAYOUT.header
    document = read_json(Path(folder) / name, name)
    check_format(document, name)
    task = document.pop("task", SINGLE_LABEL.name)
    document.pop("redact", None)  # for versions that know no redaction; `parts` reads its file
    if document.keys() != _FIELDS:
        raise BundleError(f"{name}: expected {sorted(_FIELDS)}, found {sorted(document)}")
    if not isinstance(document["info"], dict):
        raise BundleError(f"{name}: `info` must be an object")
    return Header(
        name=check_title(document["name"]),
        labels=check_labels(document["labels"], name, least_labels(task, name)),
        tiers=check_tiers(document["tiers"]),
        max_length=check_max_length(document["max_length"]),
        targets=targets_from_json(document["targets"], name),
        info=document["info"],
        task=task,
    )


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries whose numerics a bundle depends on."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # this one in a checkout, or one of an extra
            continue
    return found
