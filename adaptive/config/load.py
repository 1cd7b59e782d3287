"""Opens recipes and presets: a path or a mapping, overrides, and the schema's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adaptive.config.documents import Document, read_document
from adaptive.config.faults import describe
from adaptive.config.fields import Section
from adaptive.config.overrides import apply_overrides
from adaptive.config.paths import place_paths
from adaptive.config.preset import Preset
from adaptive.config.recipe import DataConfig, Recipe
from adaptive.config.task import TaskConfig
from adaptive.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class _Task(Section):
    """A task by itself."""

    task: TaskConfig


def load_recipe(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, packed: bool = False
) -> Recipe:
    """A recipe from a YAML file or a mapping; each override is `path=value`.

    Relative paths in a file are relative to it; those in a mapping or an override to the current
    folder.

    Args:
        packed: the file lies in a bundle, and its paths are as seen from where the build ran.

    Raises:
        ConfigError: with every fault, its path and, where one is near, the right name.
    """
    return _load(Recipe, source, overrides, "recipe", packed)


def load_preset(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Preset:
    """A preset from a YAML file or a mapping; each override is `path=value`.

    Relative paths are taken as in a recipe.

    Raises:
        ConfigError: with every fault, its path and, where one is near, the right name.
    """
    return _load(Preset, source, overrides, "preset")


def load_source(source: Mapping[str, Any]) -> DataConfig:
    """A source of text from a mapping.

    Raises:
        ConfigError: with every fault.
    """
    return _load(DataConfig, source, (), "data source")


def load_task(task: Mapping[str, Any] | str) -> TaskConfig:
    """A recipe's `task` from a mapping, or from its kind alone.

    Raises:
        ConfigError: with every fault.
    """
    return _load(_Task, {"task": task}, (), "task").task


def _load(
    model: type[Model],
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    kind: str,
    packed: bool = False,
) -> Model:
    document = Document(kind, source) if isinstance(source, Mapping) else read_document(source)
    if not isinstance(document.value, Mapping):
        found = "nothing" if document.value is None else f"a {type(document.value).__name__}"
        raise ConfigError(f"{document.name}: a {kind} is a mapping of keys, found {found}")
    value = document.value
    if not isinstance(source, Mapping) and not packed:
        given = [override.partition("=")[0].strip() for override in overrides]
        value = place_paths(document.name, value, Path(source).parent, given)
    value = apply_overrides(value, overrides)
    marks = dict(document.marks)
    for override in overrides:  # what was overridden no longer stands in the file
        marks.pop(tuple(override.partition("=")[0].strip().split(".")), None)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = describe(error, model, marks)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{document.name}: {count}", faults) from None
