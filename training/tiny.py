"""Steps of bags and of shallow narrow transformers, distilled from the full tier.

A step is called as its tier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adaptive.config.tiers import BagTier, NarrowTier
from adaptive.errors import BuildError
from adaptive.tiers.bag import Bag
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.narrow import narrow
from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.training.epochs import TINY, epochs_for, held_out
from adaptive.training.evaluate_tier import student_figures
from adaptive.training.learn.distill import distill
from adaptive.training.learn.loop import Options
from adaptive.training.parts import load_built, task_of
from adaptive.training.steps import Context, Figures, Step, of_tier
from adaptive.training.teach import load_teacher


def _work(config: BagTier | NarrowTier, context: Context, folder: Path) -> Figures:
    recipe = context.recipe
    full, teacher = load_built(context, "full"), load_teacher(context)
    torch.manual_seed(recipe.seed)
    tier = untrained(config, full).to(context.device)
    options = Options(
        name=config.name,
        epochs=epochs_for(config.epochs, len(teacher.tokens), config.batch_size, TINY),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        bfloat16=recipe.model.dtype == "bfloat16" and config.autocast,
        seed=recipe.seed,
    )
    # On a GPU a step on a whole table is quick; weights that decay have to be touched all.
    backbone = tier.backbone
    lazy = context.device.type == "cpu" and not config.weight_decay
    sparse = backbone.tables if lazy else ()
    backbone.sparse = bool(sparse)
    done = distill(
        tier,
        teacher,
        options,
        weight=config.distill_weight,
        temperature=config.temperature,
        held_out=held_out(context, tier, config.epochs),
        dropout=config.dropout,
        sparse=sparse,
        folder=folder,
        on_event=context.on_event,
        task=task_of(context),
    )
    backbone.sparse = False
    if isinstance(backbone, Bag):
        backbone.halve_pairs()
    save_tier(tier, folder / "tier")
    figures = student_figures(context, tier)
    return {"kind": config.kind, "optimiser_steps": done, **figures}


def untrained(config: BagTier | NarrowTier, full: Tier) -> Tier:
    """The tier before it learns, its embeddings the full tier's.

    Raises:
        BuildError: it cannot be made of that full tier.
    """
    return _UNTRAINED[config.kind](full, config)


def _bag(full: Tier, config: BagTier) -> Tier:
    table = full.backbone.embedding_table.detach()
    try:
        bag = Bag.from_table(table, config.width or table.shape[1], config.bigrams)
    except ValueError as error:
        raise BuildError(f"{config.name}.width: {error}") from error
    return Tier(config.name, bag, (0,), full.labels, head_width=config.hidden)


def _transformer(full: Tier, config: NarrowTier) -> Tier:
    try:
        backbone = narrow(
            backbone_of(full),
            layers=config.layers,
            hidden=config.hidden,
            heads=config.heads,
            intermediate=config.intermediate,
        )
    except ValueError as error:  # FamilyError included
        raise BuildError(f"{config.name}: {error}") from error
    depths = config.exits or tuple(range(config.layers + 1))
    depths = depths if depths[-1] == config.layers else (*depths, config.layers)
    return Tier(config.name, backbone, depths, full.labels)


_UNTRAINED: Mapping[str, Callable[[Tier, Any], Tier]] = {
    "bag": _bag,
    "transformer": _transformer,
}


def step(config: BagTier | NarrowTier) -> Step:
    """The step that makes such a tier."""
    reads = partial(of_tier, name=config.name)
    return Step(config.name, ("data", "full", "teacher"), reads, partial(_work, config))
