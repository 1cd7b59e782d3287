"""Step `export`: a tier's segments as ONNX graphs, which ONNX Runtime runs when it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptive.text import tokens as token_rows
from adaptive.tiers.kinds import backbone_of
from adaptive.training.graphs import write_graphs
from adaptive.training.parts import load_built, steps_by_tier, task_of
from adaptive.training.quantise import compare, sample
from adaptive.training.steps import Context, Figures, Step, of_serving

BATCH = 32
ROWS = 256  # rows of the fit split that are run, alone and together


def _work(context: Context, folder: Path) -> Figures:
    recipe = context.recipe
    tokens, labels = sample(context, ROWS)
    packed = [token_rows.pack(tokens, rows) for rows in token_rows.batches(tokens.lengths, BATCH)]
    steps = steps_by_tier(context)
    figures: Figures = {}
    for name in recipe.exported:
        int8 = name in recipe.int8
        plain = load_built(context, steps[name])
        texts = packed if int8 else None
        write_graphs(backbone_of(plain), plain.depths, folder / name, sample=texts)
        ours = load_built(context, steps[name], int8=int8)
        theirs = load_built(context, steps[name], int8=int8, graphs=folder / name)
        figures[name] = {
            f"batch_{batch}": compare(ours, theirs, tokens, labels, batch, task_of(context))
            for batch in (1, BATCH)
        }
    return figures


def _reads(context: Context) -> Any:
    return of_serving(context, "export", "quantise")


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("export", ("data", *tiers), _reads, _work)
