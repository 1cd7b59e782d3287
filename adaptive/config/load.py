"""Opens recipes and presets: a path or a mapping, overrides, and the schema's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adaptive.config.documents import Document, read_document
from adaptive.config.faults import describe
from adaptive.config.overrides import apply_overrides
from adaptive.config.preset import Preset
from adaptive.config.recipe import DataConfig, Recipe
from adaptive.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file or a mapping; each override is `path=value`.

    Raises:
        ConfigError: with every fault, its path and, where one is near, the right name.
    """
    return _load(Recipe, source, overrides, "recipe")


def load_preset(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Preset:
    """A preset from a YAML file or a mapping; each override is `path=value`.

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


def _load(
    model: type[Model], source: str | Path | Mapping[str, Any], overrides: Sequence[str], kind: str
) -> Model:
    document = Document(kind, source) if isinstance(source, Mapping) else read_document(source)
    if not isinstance(document.value, Mapping):
        found = "nothing" if document.value is None else f"a {type(document.value).__name__}"
        raise ConfigError(f"{document.name}: a {kind} is a mapping of keys, found {found}")
    value = apply_overrides(document.value, overrides)
    marks = dict(document.marks)
    for override in overrides:  # what was overridden no longer stands in the file
        marks.pop(tuple(override.partition("=")[0].strip().split(".")), None)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = describe(error, model, marks)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{document.name}: {count}", faults) from None
