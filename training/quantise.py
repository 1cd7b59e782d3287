"""Step `quantise`: what serving tiers in int8 does to their answers and their time.

The weights stay as they are, and are rounded anew wherever a tier is loaded; so this step
writes figures alone, and those who read from it know that tiers are in int8.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive.cells import Labels, known_labels
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tasks.base import share_of
from adaptive.text import tokens as token_rows
from adaptive.tiers.graphs import torch_threads
from adaptive.tiers.tier import Tier
from adaptive.training.parts import load_built, steps_by_tier, task_of
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures, Step, of_serving
from adaptive.types import Tokens

ROWS = 2048  # rows of the fit split that are run at most
BATCH = 32


def _work(context: Context, folder: Path) -> Figures:
    tokens, labels = sample(context, ROWS)
    steps = steps_by_tier(context)
    figures: Figures = {}
    for name in context.recipe.int8:
        plain, small = (load_built(context, steps[name], int8=int8) for int8 in (False, True))
        figures[name] = compare(plain, small, tokens, labels, task=task_of(context))
    return figures


def sample(context: Context, rows: int) -> tuple[Tokens, Labels]:
    """So many rows of the fit split at most, and their labels."""
    tokens, labels = load_rows(context.folder("data") / "fit.safetensors")
    some = np.arange(min(rows, len(tokens)))
    return token_rows.select(tokens, some), labels[some]


def compare(
    before: Tier,
    after: Tier,
    tokens: Tokens,
    labels: Labels,
    batch_size: int = BATCH,
    task: Task = SINGLE_LABEL,
) -> Figures:
    """Every exit's answers before and after a change, and how much faster the tier is then."""
    (old, slow), (new, quick) = (_run(tier, tokens, batch_size, task) for tier in (before, after))
    known = known_labels(labels)
    exits = [
        {
            "depth": depth,
            "accuracy_before": share_of(task, was, labels) if known else None,
            "accuracy": share_of(task, now, labels) if known else None,
            "agreement": float(task.same(was, now).mean()),
        }
        for depth, was, now in zip(before.depths, old, new, strict=True)
    ]
    return {"exits": exits, "rows": len(tokens), "time_ratio": slow / quick}


@torch.inference_mode()
def _run(tier: Tier, tokens: Tokens, batch_size: int, task: Task) -> tuple[list[Labels], float]:
    """What each exit answers to each row, exits times [n, ...], and the seconds it took."""
    found = torch.zeros(len(tier.depths), len(tokens), len(tier.labels))
    batches = list(token_rows.batches(tokens.lengths, batch_size))
    seconds = 0.0
    for number, rows in enumerate([batches[0], *batches]):
        begun = time.perf_counter()
        with torch_threads([tier])():
            state = tier.embed(token_rows.pack(tokens, rows, torch.device("cpu")))
            for exit in range(len(tier.depths)):
                state = tier.advance(state, exit)
                found[exit, rows] = tier.answer(state, exit)[0].float()
        if number:  # the first batch warms up
            seconds += time.perf_counter() - begun
    return [task.answers(task.scores(logits)) for logits in found], seconds


def _reads(context: Context) -> Any:
    return of_serving(context, "quantise")


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("quantise", ("data", *tiers), _reads, _work)
