"""The recipe that goes into a bundle: without the paths of the machine that built it.

The whole recipe is kept beside the bundle, where `adaptive evaluate BUNDLE test` finds it again. It
is no part of the bundle, and nothing uploads it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from adaptive.bundle.layout import LAYOUT
from adaptive.config import load_recipe
from adaptive.config.recipe import DataConfig, Recipe
from adaptive.config.tiers import upgraded
from adaptive.errors import DataError


def public_source(source: str) -> str:
    """A hub id or `package:NAME` as it is; of a file or folder `./` and the last part."""
    if source.startswith("package:"):
        return source
    plain = source.replace("\\", "/")
    local = plain.startswith(("/", "~", ".")) or plain.count("/") > 1 or ":" in plain
    if local or os.path.exists(source):
        return f"./{PurePosixPath(plain).name}"
    return source


def published(recipe: Recipe) -> Recipe:
    """The recipe with every path of this machine cut to its last part."""
    data = recipe.data
    changes: dict[str, Any] = {"unlabelled": tuple(map(_public_data, data.unlabelled))}
    if data.pool is not None:
        changes["pool"] = _public_data(data.pool)
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"id": public_source(recipe.model.id)}),
            "data": _public_data(data).model_copy(update=changes),
            "output": public_source(os.path.abspath(recipe.output)),
        }
    )


def _public_data(data: DataConfig) -> DataConfig:
    return data.model_copy(update={"source": public_source(data.source)})


def to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML, its tiers as a list.

    The usual task is left out, and redaction where there is none: versions without them do not know
    the words.
    """
    usual = {"task"} if recipe.task.kind == "single_label" else set()
    usual |= set() if recipe.redact else {"redact"}
    told = upgraded(recipe.model_dump(mode="json", exclude=usual))
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def keep_beside(recipe: Recipe) -> None:
    """Keep the whole recipe beside its bundle."""
    _beside(Path(recipe.output)).write_text(to_yaml(recipe), encoding="utf-8")


def own_recipe(bundle: Path) -> Recipe:
    """The recipe that a bundle was built from, with its paths where it was built on this machine.

    Raises:
        ConfigError: it cannot be read.
        DataError: it names a file or folder whose place is not known here.
    """
    inside, beside = load_recipe(bundle / LAYOUT.recipe, packed=True), _beside(bundle)
    if beside.is_file():
        whole = load_recipe(beside, packed=True)
        if published(whole) == inside:  # else another bundle was put here since
            return whole
    if inside.data.source.startswith("./") and not os.path.exists(inside.data.source):
        raise DataError(
            f"the bundle's own recipe calls its data {inside.data.source!r} and does not tell the "
            "folder; give the data's path in place of `test`"
        )
    return inside


def _beside(bundle: Path) -> Path:
    place = bundle.resolve()
    return place.with_name(f".{place.name}.{LAYOUT.recipe}")
