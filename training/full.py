"""Step `full`: fine-tune the full tier, wholly or by adapters, or take a checkpoint as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adaptive.config.recipe import Recipe
from adaptive.config.steps import FullConfig
from adaptive.errors import BuildError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import load_backbone, other_task, read_config
from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.training.adapting import adapt
from adaptive.training.doubts import about_full
from adaptive.training.epochs import FULL, epochs_for, held_out
from adaptive.training.evaluate_tier import answers_to
from adaptive.training.learn.answers import share_right
from adaptive.training.learn.loop import Options
from adaptive.training.learn.tune import fine_tune
from adaptive.training.parts import labels_of, task_in, task_of
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures, Step, of_tier


def _work(context: Context, folder: Path) -> Figures:
    recipe, labels = context.recipe, labels_of(context)
    backbone = load(context, labels)
    tier = untrained(recipe, backbone, labels).to(context.device)
    figures: Figures = {}
    if recipe.last.tune != "none":
        figures["optimiser_steps"] = _tune(context, tier, folder)
    save_tier(tier, folder / "tier")
    warnings = [_added(backbone.added_rows)] if backbone.added_rows else []
    found = answers_to(context, tier, "fit")
    if found is None:
        return {**figures, "fit_accuracy": None, "warnings": warnings}
    task = task_of(context)
    warnings += about_full(*found, len(labels)) if task.exclusive else []
    if backbone.guessed_order and recipe.last.tune == "none":
        warnings.append(_guessed(labels))
    return {**figures, "fit_accuracy": share_right(*found, task), "warnings": warnings}


def raw_names(context: Context, labels: Sequence[str]) -> tuple[str, ...]:
    """What the data call each label; nothing where several of theirs became one."""
    if context.data is not None:  # in memory nothing is renamed
        return ()
    names: dict[str, list[str]] = {label: [] for label in labels}
    for raw, label in context.recipe.data.rename.items():
        names.get(label, []).append(raw)
    if any(len(each) > 1 for each in names.values()):
        return ()
    return tuple(each[0] if each else label for label, each in names.items())


def _added(rows: int) -> str:
    return (
        f"the tokenizer has {rows} added token{'s' if rows > 1 else ''} for which the model's "
        "embedding table had no row; each was given the mean of the others"
    )


def _guessed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"class {i} is {label!r}" for i, label in enumerate(labels[:5]))
    more = f" and so on for {len(labels)} labels" if len(labels) > 5 else ""
    return (
        f"the checkpoint does not name its classes, so they were taken in the order of the labels: "
        f"{shown}{more}. If that is wrong, list the labels in the checkpoint's order with "
        "data.rename"
    )


def load(context: Context, labels: Sequence[str]) -> Backbone:
    """The recipe's model with a head for the labels.

    Raises:
        AdaptiveError: as `load_backbone`.
    """
    model = context.recipe.model
    backbone, _ = load_backbone(
        model.id,
        classes=len(labels),
        labels=labels,
        raw=raw_names(context, labels),
        revision=model.revision,
        sha256=model.sha256,
        problem=task_of(context).problem_type,
    )
    return backbone


def untrained(recipe: Recipe, backbone: Backbone, labels: tuple[str, ...]) -> Tier:
    """The full tier before it is fine-tuned."""
    # A base model's own head is untrained and reads one token; a head on the mean of all
    # tokens learns more from few rows.
    return Tier(
        "full",
        backbone,
        _depths(recipe.last, backbone),
        labels,
        own_head=not backbone.fresh_head,
    )


def check_task(recipe: Recipe, folder: Path) -> Any:
    """The config in a model's folder, if its head does what the recipe needs of it.

    Raises:
        BuildError: the checkpoint is to be taken as it is, and its head is for another task; or
            the config cannot be read.
        FamilyError: a family without adapter.
    """
    config = read_config(folder)
    wanted = task_in(recipe).problem_type
    other = other_task(config, wanted) if recipe.last.tune == "none" else None
    if other is not None:
        raise BuildError(
            f"model {recipe.model.id!r} cannot be taken as it is: {other}. Give a checkpoint that "
            f"was fine-tuned for the recipe's task.kind, {recipe.task.kind} (problem_type "
            f"{wanted}), name the task that it is for, or give labelled text and full.tune 'full' "
            "or 'lora', which train a new head"
        )
    return config


def check(recipe: Recipe, backbone: Backbone, labels: tuple[str, ...]) -> None:
    """Check that the model can be what the recipe makes of it.

    Raises:
        BuildError: an untrained head is to be taken as it is, or texts are to be longer than the
            model's positions.
    """
    if recipe.last.tune == "none" and backbone.fresh_head:
        raise BuildError(
            f"model {recipe.model.id!r} has no trained classification head for the data's "
            f"{len(labels)} labels, of up to {max(map(len, labels))} characters: set full.tune to "
            "'full' or 'lora', or give a checkpoint fine-tuned on them (data.rename gives the "
            "data's labels other names)"
        )
    wanted = recipe.model.max_length
    if wanted is not None and wanted > backbone.max_length:
        raise BuildError(
            f"model.max_length is {wanted}, but model {recipe.model.id!r} has "
            f"positions for {backbone.max_length} tokens"
        )


def _depths(config: FullConfig, backbone: Backbone) -> tuple[int, ...]:
    depths = tuple(range(backbone.layers + 1)) if config.exits is None else config.exits
    if depths[-1] > backbone.layers:
        raise BuildError(
            f"full.exits names depth {depths[-1]}, but the model has {backbone.layers} layers"
        )
    return depths if depths[-1] == backbone.layers else (*depths, backbone.layers)


def _tune(context: Context, tier: Tier, folder: Path) -> int:
    """The task's loss at the last exit; returns the optimiser steps done."""
    config = context.recipe.last
    tokens, labels = load_rows(context.folder("data") / "train.safetensors")
    epochs = epochs_for(config.epochs, len(tokens), config.batch_size, FULL)
    adapters = adapt(tier, config, epochs * math.ceil(len(tokens) / config.batch_size))
    adalora = config.tune == "adalora"
    options = Options(
        name="full",
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        bfloat16=context.recipe.model.dtype == "bfloat16",
        seed=context.recipe.seed,
    )
    done = fine_tune(
        tier,
        tokens,
        labels,
        options,
        held_out=held_out(context, tier, config.epochs),
        # the allocator's averages are in no checkpoint: an interrupted AdaLoRA starts again
        folder=None if adalora else folder,
        on_event=context.on_event,
        task=task_of(context),
        adalora=adapters if adalora else None,
    )
    if adapters is not None:
        adapters.merge_and_unload()
    return done


STEP = Step("full", ("data",), partial(of_tier, name="full"), _work)
