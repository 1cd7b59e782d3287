"""Step `costs`: what each piece of the cascade takes on this device, in milliseconds a text."""

from __future__ import annotations

import json
from pathlib import Path

from adaptive.costs import CostTable
from adaptive.timing import measure_costs
from adaptive.training.parts import DTYPES, load_tiers
from adaptive.training.record_outcomes import load_reliability
from adaptive.training.steps import Context, Figures, Step, section


def _work(context: Context, folder: Path) -> Figures:
    config = context.recipe.cost
    table = measure_costs(
        load_tiers(context, DTYPES[config.dtype]),
        load_reliability(context).to(context.device),
        context.device,
        batch_size=config.batch_size,
        lengths=config.lengths or _lengths(context.figures("data")["longest"]),
        repeats=config.repeats,
        quiet=context.quiet,
    )
    (folder / "costs.json").write_text(json.dumps(table.to_json()), encoding="utf-8")
    return dict(table.measured)


def _lengths(longest: int) -> list[int]:
    """8 to 128 tokens and on to the longest row, each length twice the one before."""
    found = [8, 16, 32, 64, 128]
    while found[-1] < longest:
        found.append(min(2 * found[-1], longest))
    return found


def load_costs(context: Context) -> CostTable:
    """The measured table."""
    file = context.folder("costs") / "costs.json"
    return CostTable.from_json(json.loads(file.read_text(encoding="utf-8")))


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("costs", (*tiers, "outcomes"), section("cost"), _work)
