"""Step `groups`: the group of each held-out row, in each column that a target names.

A step of its own, so that a target for groups can be added to a finished build: the rows are
those of step `data`, nothing is trained anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from adaptive.errors import DataError
from adaptive.training.data import Dataset
from adaptive.training.parts import labels_of
from adaptive.training.prepare import SPLITS, load_splits
from adaptive.training.rows import load_rows
from adaptive.training.splits import Splits
from adaptive.training.steps import Context, Figures, Step
from adaptive.types import Groups

LABEL = "label"  # the classes, whatever the column of the labels is called
HELD_OUT = SPLITS[1:]


def _work(context: Context, folder: Path) -> Figures:
    groups = _divide(context)
    for split in HELD_OUT:
        arrays = {column: each[split].index for column, each in groups.items()}
        save_file(arrays, folder / f"{split}.safetensors")
    names = {column: each["fit"].names for column, each in groups.items()}
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    return {column: len(each) for column, each in names.items()}


def _divide(context: Context) -> dict[str, dict[str, Groups]]:
    """The groups of each held-out split, by column."""
    found: dict[str, dict[str, Groups]] = {}
    if LABEL in context.recipe.columns:
        names = labels_of(context)
        files = {split: context.folder("data") / f"{split}.safetensors" for split in HELD_OUT}
        found[LABEL] = {s: Groups(names, load_rows(file)[1]) for s, file in files.items()}
    if columns := _columns(context):
        data, splits = load_with_groups(context)
        for column in columns:
            rows = {split: getattr(splits, split) for split in HELD_OUT}
            found[column] = {split: data.groups[column].take(own) for split, own in rows.items()}
    return found


def load_groups(context: Context, split: str) -> dict[str, Groups]:
    """What the step found for a split, by column; nothing where no target names one."""
    if not context.recipe.columns:
        return {}
    folder = context.folder("groups")
    names: Mapping[str, list[str]] = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    index = load_file(folder / f"{split}.safetensors")
    return {column: Groups(tuple(each), index[column]) for column, each in names.items()}


def _columns(context: Context) -> list[str]:
    """The columns to be read from the data."""
    return [column for column in context.recipe.columns if column != LABEL]


def load_with_groups(context: Context) -> tuple[Dataset, Splits]:
    """The build's data with the columns that targets name, and their splits.

    Raises:
        DataError: the data are wrong, or lack a column.
    """
    columns = _columns(context)
    data, splits = load_splits(context.recipe, context.data, columns)
    for column in columns:
        if column not in data.groups:
            raise DataError(
                f"{data.name}: a target holds in each {column!r}, which the data in memory do not "
                "have; give it as one of `groups`"
            )
    return data, splits


def _reads(context: Context) -> Any:
    """The columns, and what stands in them."""
    digest = hashlib.sha256()
    if columns := _columns(context):
        data, _ = load_with_groups(context)
        for column in columns:
            digest.update(json.dumps(data.groups[column].names).encode())
            digest.update(data.groups[column].index.tobytes())
    return {"columns": context.recipe.columns, "content": digest.hexdigest()}


STEP = Step("groups", ("data",), _reads, _work)
