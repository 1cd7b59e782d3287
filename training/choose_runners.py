"""Step `runners`: what runs the layers of tiers that are served by `auto`, measured here.

Every runner of the table that this machine has is tried on the same rows, in turns and in batches
as the cost step's. The quickest one is kept, whatever its rounding does to answers: outcomes are
recorded with it, and what is lost against float32 is certified.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adaptive.cells import Labels
from adaptive.measure.timing import machine
from adaptive.runners import PLAIN, RUNNERS
from adaptive.text import tokens as token_rows
from adaptive.training.learn.runners import Choice, choose
from adaptive.training.parts import steps_by_tier, task_of
from adaptive.training.quantise import compare, sample
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import Tokens

ROWS = 256  # rows of the fit split that are run at most


def _work(context: Context, folder: Path) -> Figures:
    tokens, labels = sample(context, ROWS)
    return {
        name: _choose(context, name, folder / name, tokens, labels)
        for name in context.recipe.measured
    }


def _choose(context: Context, name: str, folder: Path, tokens: Tokens, labels: Labels) -> Figures:
    """The figures of a tier; the graphs of the runner that is chosen, if any, in `folder`."""
    batch_size, device = context.recipe.cost.batch_size, context.device
    tier = context.folder(steps_by_tier(context)[name]) / "tier"
    batches = [
        token_rows.pack(tokens, rows, device)
        for rows in token_rows.batches(tokens.lengths, batch_size)
    ]
    found, exits = choose(tier, device, folder, batches), []
    chosen = found.runner
    if chosen != PLAIN:
        both = found.tiers[PLAIN], found.tiers[chosen]
        exits = compare(*both, tokens, labels, batch_size, task_of(context))["exits"]
    if RUNNERS[chosen].graphs:
        shutil.copytree(folder / chosen, folder, dirs_exist_ok=True)
    for runner in RUNNERS:
        shutil.rmtree(folder / runner, ignore_errors=True)
    return figures_of(found, exits, batch_size, device)


def figures_of(
    found: Choice, exits: Sequence[Any], batch_size: int, device: torch.device
) -> Figures:
    """What `sentence` tells.

    Args:
        exits: how many answers stayed at each, where they were compared with torch's.
    """
    return {
        "runner": found.runner,
        "milliseconds": dict(found.milliseconds),
        "left_out": dict(found.left_out),
        "exits": exits,
        "batch_size": batch_size,
        **machine(device),
    }


def sentence(name: str, figures: Figures) -> str:
    """What was chosen for a tier and why, for the card."""
    chosen, took = figures["runner"], figures["milliseconds"]
    others = ", ".join(f"{each} {took[each]:.3g}" for each in took if each != chosen)
    threads = f"{figures['threads']} thread{'s' if figures['threads'] > 1 else ''}"
    told = (
        f"Runner of the {name} tier: {chosen}, the quickest on {figures['processor']} with "
        f"{threads} in batches of {figures['batch_size']}: {took[chosen]:.3g} ms a text"
        + (f" ({others})." if others else ".")
    )
    if figures["exits"]:
        told += f" {figures['exits'][-1]['agreement']:.2%} of torch's answers stayed."
    left_out = "; ".join(f"{each}, because {why}" for each, why in figures["left_out"].items())
    return told + (f" Left out: {left_out}." if left_out else "")


def _reads(context: Context) -> Mapping[str, Any]:
    return {**section("cost")(context), "tiers": list(context.recipe.measured)}


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("runners", ("data", *tiers), _reads, _work)
