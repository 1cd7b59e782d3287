"""Data and recipes of whole builds in seconds, of tasks other than one class a text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tiny_builds import BAD, GOOD, NEUTRAL, recipe_in, write_model

from adaptive.config.recipe import Recipe
from adaptive.training.build import build

SCALE = (0.0, 4.0)
TASKS: dict[str, dict[str, Any]] = {
    "multi_label": {"kind": "multi_label"},
    "regression": {"kind": "regression", "scale": list(SCALE), "tolerance": 0.5},
}


def _row(draw: random.Random, kind: str) -> tuple[str, str]:
    """A text and its label: which kinds of words it has, or how many good ones more than bad."""
    good, bad = draw.randint(0, 2), draw.randint(0, 2)
    words = [*draw.choices(GOOD, k=good), *draw.choices(BAD, k=bad), *draw.choices(NEUTRAL, k=4)]
    draw.shuffle(words)
    if kind == "regression":
        return " ".join(words), str(2 + good - bad)
    return " ".join(words), "|".join(["praise"] * bool(good) + ["blame"] * bool(bad))


def write_rows(file: Path, kind: str, rows: int = 620, seed: int = 0) -> Path:
    """A CSV of different texts."""
    draw, found = random.Random(seed), dict[str, str]()
    while len(found) < rows:
        text, label = _row(draw, kind)
        found.setdefault(text, label)
    lines = [f"{text},{label}" for text, label in found.items()]
    file.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return file


def task_recipe(folder: Path, kind: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Two tiers, with exits at some depths, of which no more is trained than they need."""
    target = {"target": {"metric": "score_drop", "level": 0.1, "confidence": 0.9}}
    small = {"mid": None, "router": {"candidates": ["logistic"]}, "exits": {"epochs": 12}}
    full = {"full": {"epochs": 8, "learning_rate": 3e-3, "batch_size": 8, "exits": [0, 1, 3]}}
    sizes = {"train": 240, "fit": 80, "search": 80, "certify": 160, "test": 60}
    data = {"data": {"source": str(folder / "data.csv"), "splits": sizes}}
    given = {"task": TASKS[kind], **target, **small, **full, **data, **(changes or {})}
    return recipe_in(folder, given)


def build_task(
    folder: Path, kind: str, changes: dict[str, Any] | None = None, *, make_model: bool = True
) -> Path:
    """The folder with model, data, the work folder `run` and the `bundle` of such a recipe."""
    if make_model:
        write_model(folder / "model")
    write_rows(folder / "data.csv", kind)
    build(task_recipe(folder, kind, changes), folder / "run", quiet=True)
    return folder
