"""Steps of pruned tiers: the full tier is cut to really smaller matrices, then distilled back.

A step is called as its tier.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from adaptive.config.tiers import PrunedTier
from adaptive.errors import BuildError
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tiers.store import save_tier
from adaptive.tiers.surgery import Shape
from adaptive.tiers.tier import Tier
from adaptive.training.epochs import MID, held_out, layer_options
from adaptive.training.evaluate_tier import student_figures
from adaptive.training.learn.distill import distill
from adaptive.training.learn.prune import prune
from adaptive.training.parts import load_built, task_of
from adaptive.training.steps import Context, Figures, Step, of_tier
from adaptive.training.teach import load_teacher
from adaptive.types import Tokens

# Of a training whose length is counted in steps, and of one whose epochs are given.
RATE, EPOCHS_RATE = 5e-4, 2e-4


def _work(config: PrunedTier, context: Context, folder: Path) -> Figures:
    full, teacher = load_built(context, "full"), load_teacher(context)
    width = context.recipe.exits.width(full.backbone.hidden)
    task = task_of(context)
    tier, shape = cut(config, full, teacher.tokens, context.recipe.seed, width, task)
    rate = config.learning_rate or (RATE if config.epochs is None else EPOCHS_RATE)
    done = distill(
        tier,
        teacher,
        layer_options(config, context, len(teacher.tokens), MID, rate),
        weight=config.distill_weight,
        temperature=config.temperature,
        held_out=held_out(context, tier, config.epochs),
        # behind its i-th kept layer the student stands for the teacher just before the next
        imitate=dict(enumerate([0, *shape.layers[1:], full.backbone.layers])),
        hidden_weight=config.hidden_weight,
        folder=folder,
        on_event=context.on_event,
        task=task,
    )
    save_tier(tier, folder / "tier")
    share = _layer_work(tier) / _layer_work(full)
    return {
        "optimiser_steps": done,
        **student_figures(context, tier),
        "layers": list(shape.layers),
        "work_share": share,
    }


def check(config: PrunedTier, full: Tier) -> None:
    """Raise BuildError where more layers are to be kept than there are."""
    layers = full.backbone.layers
    if config.layers > layers:
        raise BuildError(
            f"{config.name}.layers is {config.layers}, but the full tier has {layers} layers"
        )


def cut(
    config: PrunedTier,
    full: Tier,
    tokens: Tokens,
    seed: int,
    head_width: int | None = None,
    task: Task = SINGLE_LABEL,
) -> tuple[Tier, Shape]:
    """The tier before it learns, and what was kept of the full one."""
    # the first layers are the best ones to keep, unless a recipe trains long or says otherwise
    first = config.keep == "first" or (config.keep is None and config.epochs is None)
    return prune(
        full,
        tokens,
        name=config.name,
        layers=config.layers,
        heads=config.heads,
        ffn=config.ffn,
        multiple=config.multiple,
        keep_first=first,
        exits=config.exits,
        head_width=head_width,
        batches=config.importance_batches,
        batch_size=config.batch_size,
        seed=seed,
        task=task,
    )


def _layer_work(tier: Tier) -> int:
    return sum(tier.segment_work(exit) for exit in range(len(tier.depths)))


def _reads(name: str, context: Context) -> Any:
    return [of_tier(context, name), context.recipe.exits.head_width]


def step(config: PrunedTier) -> Step:
    """The step that makes such a tier."""
    reads = partial(_reads, config.name)
    return Step(config.name, ("data", "full", "teacher"), reads, partial(_work, config))
