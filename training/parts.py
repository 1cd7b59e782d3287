"""What earlier steps of a build left, loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.config.recipe import Recipe
from adaptive.runners import RUNNERS
from adaptive.tasks import Task, task_from_json
from adaptive.tiers.store import load_tier
from adaptive.tiers.tier import Tier
from adaptive.training.steps import Context

TIERS = {"exits": "full"}  # of steps that are called otherwise than their tier
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def task_of(context: Context) -> Task:
    """What the recipe's answers are, before anything of it is fitted."""
    return task_in(context.recipe)


def task_in(recipe: Recipe) -> Task:
    """The same of a recipe."""
    task = recipe.task
    return task_from_json(task.kind, task.model_dump(exclude={"kind"}))


def labels_of(context: Context) -> tuple[str, ...]:
    """Names of a head's outputs, such as classes."""
    return tuple(json.loads((context.folder("data") / "labels.json").read_text(encoding="utf-8")))


def max_length_of(context: Context) -> int:
    """Tokens that texts are cut at."""
    return int(context.figures("data")["max_length"])


def tier_steps(context: Context) -> tuple[str, ...]:
    """The steps whose folders hold the finished tiers, in cascade order."""
    return (*[tier.name for tier in context.recipe.small], "exits")


def steps_by_tier(context: Context) -> dict[str, str]:
    """Name of each tier, in cascade order -> the step that left it."""
    return {TIERS.get(step, step): step for step in tier_steps(context)}


def finished_steps(context: Context) -> tuple[str, ...]:
    """The steps that decide what the finished tiers answer."""
    recipe = context.recipe
    serving = {"runners": recipe.measured, "quantise": recipe.int8, "export": recipe.exported}
    return (*tier_steps(context), *[step for step, tiers in serving.items() if tiers])


def load_tiers(context: Context, dtype: torch.dtype | None = None) -> tuple[Tier, ...]:
    """The tiers in cascade order, in evaluation mode, as they are to be served."""
    served, measured = runners_of(context), context.recipe.measured
    return tuple(
        load_as(
            context,
            step,
            served[name],
            context.folder("runners" if name in measured else "export") / name,
            dtype,
        )
        for name, step in steps_by_tier(context).items()
    )


def runners_of(context: Context) -> dict[str, str]:
    """Name of each tier, in cascade order -> what runs its layers, be it told or chosen."""
    recipe = context.recipe
    chosen = context.figures("runners") if recipe.measured else {}
    return recipe.served | {name: chosen[name]["runner"] for name in recipe.measured}


def load_as(
    context: Context, step: str, name: str, graphs: Path, dtype: torch.dtype | None = None
) -> Tier:
    """The tier a step left, opened by a runner.

    Args:
        name: of the runner.
        graphs: where its graphs lie, if it needs any.
        dtype: of the weights, where the runner has none of its own.
    """
    runner = RUNNERS[name]
    own = dtype if runner.dtype is None else DTYPES[runner.dtype]
    where = graphs if runner.graphs else None
    return load_built(context, step, own, int8=runner.int8, graphs=where)


def load_built(
    context: Context,
    step: str,
    dtype: torch.dtype | None = None,
    *,
    int8: bool = False,
    graphs: Path | None = None,
) -> Tier:
    """The tier a step left, in int8 or run from graphs where that is asked for."""
    folder = context.folder(step) / "tier"
    return load_tier(folder, context.device, dtype, int8=int8, graphs=graphs)


def tokenizer_of(context: Context) -> Any:
    """The tokenizer all tiers share."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(context.folder("data") / "tokenizer"))


def log_frequency_of(context: Context) -> NDArray[np.float32]:
    """Log frequency of each token in the train split, [V]."""
    file: Path = context.folder("data") / "log_frequency.npy"
    frequency: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return frequency
