"""Step `exits`: heads at every depth of the full tier, on its frozen hidden states."""

from __future__ import annotations

from pathlib import Path

from adaptive.tiers.store import save_tier
from adaptive.training.epochs import EXITS, epochs_for, held_rows
from adaptive.training.learn.exits import fit_exits, held_out_exits, with_fresh_exits
from adaptive.training.learn.loop import Options
from adaptive.training.parts import load_built, task_of
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.training.teach import load_teacher


def _work(context: Context, folder: Path) -> Figures:
    config = context.recipe.exits
    full = load_built(context, "full")
    tier = with_fresh_exits(full, config.width(full.backbone.hidden))
    teacher = load_teacher(context)
    options = Options(
        name="exits",
        epochs=epochs_for(config.epochs, len(teacher.tokens), config.batch_size, EXITS),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=context.recipe.seed,
    )
    measure = None
    if config.epochs is None and len(tier.depths) > 1:
        half = context.recipe.model.dtype == "bfloat16"
        measure = held_out_exits(tier, *held_rows(context), bfloat16=half, task=task_of(context))
    done = fit_exits(
        tier,
        teacher,
        options,
        held_out=measure,
        folder=folder,
        on_event=context.on_event,
        task=task_of(context),
    )
    save_tier(tier, folder / "tier")
    return {"exits": len(tier.depths), "optimiser_steps": done}


STEP = Step("exits", ("data", "full", "teacher"), section("exits"), _work)
