"""Labelled text for `evaluate` and `curve`: any data source, or the bundle's own test split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.cells import CLASSES, Cells
from adaptive.config import DataConfig, Recipe, load_recipe, load_source
from adaptive.config.recipe import OnBadRow
from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from adaptive.training.data import Dataset

LABEL = "label"  # as a group: the classes, whatever their column is called


def choose_source(
    data: str,
    *,
    text: str | None,
    pair: str | None,
    label: str | None,
    where: Sequence[str],
    rename: Sequence[str],
    limit: int | None,
    on_bad_row: OnBadRow | None,
    own: DataConfig,
) -> DataConfig | None:
    """The data source that a command line names; None is the bundle's own test split.

    Args:
        data: a source as in a recipe, or `test`.
        text, pair, label: columns; None takes the bundle's own, an empty pair or label none.
        where: `column=value` each.
        rename: `raw=name` each.
        own: what the bundle was built from, see `own_data`.

    Raises:
        ConfigError: an option is wrong.
    """
    options = {
        "text": text,
        "pair": pair,
        "label": label,
        "where": _pairs("--where", where) or None,
        "rename": _pairs("--rename", rename) or None,
        "limit": limit,
        "on_bad_row": on_bad_row,
    }
    given: dict[str, Any] = {n: value for n, value in options.items() if value is not None}
    if data == "test" and not Path(data).exists():
        if given:
            raise ConfigError("options that choose data need a data source other than `test`")
        return None
    given = {"text": own.text, "pair": own.pair, "label": own.label, **given}
    given |= {name: None for name in ("pair", "label") if given[name] == ""}
    return load_source({"source": data, **given})


def own_data(bundle: str) -> DataConfig:
    """What the recipe in a bundle says of its data; the usual columns where it says nothing.

    Raises:
        BundleError: there is no such bundle.
        ConfigError: the preset is wrong.
    """
    folder = local_folder(bundle)
    try:
        return _own_recipe(folder).data
    except ConfigError:  # a bundle that no build has made
        return DataConfig(source=str(folder))


def load_labelled(
    source: DataConfig | None,
    bundle: str,
    labels: Sequence[str],
    groups: Sequence[str] = (),
    cells: Cells = CLASSES,
) -> Dataset:
    """Texts with labels in the order of the bundle's.

    Raw labels are renamed as the bundle's recipe renames them, unless the source says how.

    Args:
        source: None is the test split of the bundle's own recipe, made anew.
        bundle: as given on the command line, for its recipe.
        labels: the bundle's.
        groups: columns that divide the texts; `label` stands for the classes.
        cells: what the label column may hold.

    Raises:
        DataError: the data are wrong, or hold a label that the bundle does not know.
    """
    from adaptive.training.data import load_data

    columns = sorted({column for column in groups if column != LABEL})
    data = (
        load_data(source, groups=columns, cells=cells)
        if source is not None
        else _own_test_split(bundle, columns)
    )
    renamed = source is None or source.rename
    data = data.with_labels(labels, None if renamed else own_data(bundle).rename)
    return data.with_classes(LABEL) if LABEL in groups else data


def local_folder(source: str) -> Path:
    """The folder of a bundle given as a folder, a hub id or a preset.

    Raises:
        BundleError: there is none.
        ConfigError: the preset is wrong.
    """
    from adaptive.bundle.hub import resolve
    from adaptive.options import open_preset

    preset = open_preset(source)
    return resolve(preset.bundle, preset.revision)


def _pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    split = [value.partition("=") for value in values]
    wrong = [left for left, equals, _ in split if not equals]
    if wrong:
        raise ConfigError(f"{option} {wrong[0]!r}: expected two names with = between them")
    return {left: right for left, _, right in split}


def _own_test_split(bundle: str, groups: Sequence[str]) -> Dataset:
    """The test split of the recipe that lies in the bundle."""
    from adaptive.training.prepare import load_splits
    from adaptive.training.published import own_recipe

    data, splits = load_splits(own_recipe(local_folder(bundle)), None, groups)
    return data.take(splits.test)


def _own_recipe(folder: Path) -> Recipe:
    from adaptive.bundle.layout import LAYOUT

    return load_recipe(folder / LAYOUT.recipe, packed=True)
