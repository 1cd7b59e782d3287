"""Step `labels`: asks for the labels of a pool's search rows, of those that decide something.

Two kinds of rows are asked for. A row that some stage answers unlike the full tier decides what a
policy loses, where that stage is sure enough to answer it. A random sample tells how often the full
tier is right, which a drop in accuracy is a share of. On all other rows nothing is lost, whatever
their label is. A row whose label is not known counts as lost where it is answered otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from adaptive.errors import BuildError, DataError
from adaptive.training.parts import labels_of
from adaptive.training.prepare import load_splits
from adaptive.training.record_outcomes import ASKED, load_table
from adaptive.training.steps import Context, Figures, Step
from adaptive.types import OutcomeTable

SAMPLE = 200  # texts, of which the full tier's accuracy is read
SURE = 0.5  # reliability from which on an answer unlike the full tier's is asked about


def _work(context: Context, folder: Path) -> Figures:
    table = load_table(context, "search")
    sample, rows = rows_to_ask(table, context.recipe.seed)
    labels = np.full(len(table), -1, dtype=np.int32)
    labels[rows] = _asked(context, rows)
    known = sample[labels[sample] >= 0]
    if not len(known):
        raise BuildError(
            f"none of {len(sample)} sampled search rows has a label, so that nothing tells how "
            "often the full tier is right; label them"
        )
    right = int((table.reference[known] == labels[known]).sum())
    save_file({"labels": labels}, folder / "search.safetensors")
    content = {"right": right, "texts": len(known)}
    (folder / "sampled.json").write_text(json.dumps(content), encoding="utf-8")
    return {
        "rows": len(table),
        "asked": len(rows),
        "labels": int((labels >= 0).sum()),
        "accuracy_sampled": right / len(known),
    }


def rows_to_ask(
    table: OutcomeTable, seed: int, size: int = SAMPLE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The random sample, and all rows to be labelled, ascending each."""
    random = np.random.default_rng([seed, len(table)])
    sample = np.sort(random.permutation(len(table))[:size])
    differs = table.predictions != table.reference[:, None]
    decide = np.flatnonzero((differs & (table.reliability >= SURE)).any(1))
    return sample, np.union1d(sample, decide)


def _asked(context: Context, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Labels of search rows, by number; -1 where not even the one who was asked knows it."""
    if context.ask is None:
        raise BuildError(
            f"{len(rows)} texts of data.pool need a label: name a file for them with --ask "
            "todo.csv, or give `build` a function as `ask`"
        )
    data, splits = load_splits(context.recipe, context.data)
    texts = data.take(splits.search[rows]).items
    given, names = context.ask(texts), labels_of(context)
    return numbered(given, names, len(texts))


def numbered(given: Any, names: tuple[str, ...], count: int) -> NDArray[np.int32]:
    """Labels by number, -1 for None.

    Raises:
        DataError: another number of labels, or one that is not known.
    """
    if isinstance(given, str) or len(given) != count:
        raise DataError(f"{count} texts were asked for, {len(given)} labels came")
    place = {name: number for number, name in enumerate(names)}
    for number, label in enumerate(given, 1):
        if label is not None and label not in place:
            raise DataError(
                f"label {number} of {count} is none of the {len(names)} that the training rows "
                "have; give one of those, or None where it is not known"
            )
    return np.array([-1 if each is None else place[each] for each in given], dtype=np.int32)


def _reads(context: Context) -> Any:
    return {"seed": context.recipe.seed, "sample": SAMPLE, "sure": SURE}


STEP = Step(ASKED, ("data", "outcomes"), _reads, _work)
