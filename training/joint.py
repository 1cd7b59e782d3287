"""Steps of joint tiers: the full tier is trained on, its layers together with all its exits.

It begins as the full tier with the heads of step `exits`. Heads on frozen states can only read what
the layers hold for the last exit; here early layers learn to answer too. The full tier itself stays
as it was fine-tuned, since promises are held to it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from adaptive.config.tiers import JointTier
from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.training.epochs import JOINT, held_out, layer_options
from adaptive.training.evaluate_tier import student_figures
from adaptive.training.learn.distill import distill
from adaptive.training.parts import load_built, task_of
from adaptive.training.steps import Context, Figures, Step, of_tier
from adaptive.training.teach import load_teacher


def _work(config: JointTier, context: Context, folder: Path) -> Figures:
    tier, teacher = load_built(context, "exits").requires_grad_(True), load_teacher(context)
    tier.name = config.name
    done = distill(
        tier,
        teacher,
        layer_options(config, context, len(teacher.tokens), JOINT, config.learning_rate),
        weight=config.distill_weight,
        temperature=config.temperature,
        held_out=held_out(context, tier, config.epochs),
        folder=folder,
        on_event=context.on_event,
        task=task_of(context),
    )
    save_tier(tier, folder / "tier")
    return {"optimiser_steps": done, **student_figures(context, tier)}


def check(config: JointTier, full: Tier) -> None:
    """It can be made of every full tier."""


def step(config: JointTier) -> Step:
    """The step that makes such a tier."""
    reads = partial(of_tier, name=config.name)
    needs = ("data", "full", "teacher", "exits")
    return Step(config.name, needs, reads, partial(_work, config))
