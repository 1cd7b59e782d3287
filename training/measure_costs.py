"""Step `costs`: what each piece of the cascade takes on this device, in milliseconds a text.

It counts the pieces' work as well, so that later steps price policies without loading a tier.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adaptive.measure.timing import measure_costs
from adaptive.measure.work import work_of
from adaptive.policy.costs import CostTable
from adaptive.training.parts import DTYPES, load_tiers
from adaptive.training.record_outcomes import load_reliability, load_task
from adaptive.training.steps import Context, Figures, Step, section

CROWDED = 0.25  # share of the CPUs that other work keeps busy, from which on measurements suffer


def _work(context: Context, folder: Path) -> Figures:
    config, load = context.recipe.cost, _load()
    tiers = load_tiers(context, DTYPES[config.dtype])
    table = measure_costs(
        tiers,
        load_reliability(context).to(context.device),
        context.device,
        batch_size=config.batch_size,
        lengths=config.lengths or _lengths(context.figures("data")["longest"]),
        repeats=config.repeats,
        on_event=context.on_event,
        task=load_task(context),
    )
    for name, each in (("costs", table), ("work", work_of(tiers))):
        (folder / f"{name}.json").write_text(json.dumps(each.to_json()), encoding="utf-8")
    warnings = about_load(load, torch.get_num_threads(), os.cpu_count() or 1)
    return {**table.measured, "warnings": warnings}


def about_load(load: float, threads: int, cpus: int) -> list[str]:
    """A warning where the machine has much else to do: two threads of one core share its units.

    Args:
        load: processes that ran or waited to, in the mean of the last minute.
        threads: of this one.
        cpus: of the machine.
    """
    others = load - threads
    if others <= CROWDED * cpus:
        return []
    return [
        f"costs were measured while other work kept about {others:.1f} of {cpus} CPUs busy: large "
        "tiers may seem twice as dear as they are, and savings greater; measure again on a quiet "
        "machine (`adaptive build --force costs`)"
    ]


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _lengths(longest: int) -> list[int]:
    """8 to 128 tokens and on to the longest row, each length twice the one before."""
    found = [8, 16, 32, 64, 128]
    while found[-1] < longest:
        found.append(min(2 * found[-1], longest))
    return found


def load_costs(context: Context) -> CostTable:
    """The measured table."""
    return read_costs(context.folder("costs") / "costs.json")


def load_work(context: Context) -> CostTable:
    """The counted table, without a router."""
    return read_costs(context.folder("costs") / "work.json")


def read_costs(file: Path) -> CostTable:
    """A table of the step's, by its file."""
    return CostTable.from_json(json.loads(file.read_text(encoding="utf-8")))


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("costs", (*tiers, "outcomes"), _reads, _work)


def _reads(context: Context) -> Mapping[str, Any]:
    # the words distinguish what this step writes from what it wrote before work was counted
    return {**section("cost")(context), "writes": "counted work"}
