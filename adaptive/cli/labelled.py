"""Labelled text for `evaluate` and `curve`: any data source, or the bundle's own test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.config import load_preset, load_recipe, load_source
from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from adaptive.training.data import Dataset


@dataclass(frozen=True, slots=True)
class Source:
    """Where the text is, as given on the command line."""

    data: str  # a source as in a recipe, or `test`
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    where: Sequence[str] = ()  # column=value
    rename: Sequence[str] = ()  # raw=name
    limit: int | None = None


def load_labelled(source: Source, bundle: str, labels: Sequence[str]) -> Dataset:
    """Texts with labels in the order of the bundle's.

    Args:
        source: where the text is. `test` is the test split of the bundle's recipe, made anew.
        bundle: as given on the command line, for its recipe.
        labels: the bundle's.

    Raises:
        ConfigError: an option is wrong.
        DataError: the data are wrong, or hold a label that the bundle does not know.
    """
    from adaptive.training.data import load_data

    if source.data == "test" and not Path("test").exists():
        data = _own_test_split(source, bundle)
    else:
        data = load_data(load_source(_mapping(source)))
    return data.with_labels(labels)


def local_folder(source: str) -> Path:
    """The folder of a bundle given as a folder, a hub id or a preset.

    Raises:
        BundleError: there is none.
        ConfigError: the preset is wrong.
    """
    from adaptive.bundle.hub import resolve

    if source.endswith((".yaml", ".yml")):
        preset = load_preset(source)
        return resolve(preset.bundle, preset.revision)
    return resolve(source)


def _mapping(source: Source) -> dict[str, Any]:
    given = {
        "source": source.data,
        "text": source.text,
        "pair": source.pair,
        "label": source.label,
        "limit": source.limit,
    }
    present = {name: value for name, value in given.items() if value is not None}
    return present | {
        "where": _pairs("--where", source.where),
        "rename": _pairs("--rename", source.rename),
    }


def _pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    split = [value.partition("=") for value in values]
    faults = [
        f"{option} {value!r}: expected {'column' if option == '--where' else 'label'}=value"
        for value, (_, equals, _) in zip(values, split, strict=True)
        if not equals
    ]
    if faults:
        raise ConfigError("options are wrong", faults)
    return {left: right for left, _, right in split}


def _own_test_split(source: Source, bundle: str) -> Dataset:
    """The test split of the recipe that lies in the bundle."""
    from adaptive.bundle.layout import LAYOUT
    from adaptive.training.data import load_data
    from adaptive.training.splits import make_splits

    if source != Source("test"):
        raise ConfigError("options that choose data need a data source other than `test`")
    recipe = load_recipe(local_folder(bundle) / LAYOUT.recipe)
    seed = recipe.seed if recipe.data.seed is None else recipe.data.seed
    data = load_data(recipe.data)  # as the step `data` of the build does
    return data.take(make_splits(data, recipe.data.splits, seed).test)
