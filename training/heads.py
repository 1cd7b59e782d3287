"""Step `exits`: heads at every depth of the full tier, on its frozen hidden states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.training.distill import distillation
from adaptive.training.epochs import EXITS, epochs_for, held_rows
from adaptive.training.evaluate_tier import share_right
from adaptive.training.loop import Options, Rows, fit
from adaptive.training.parts import load_built
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.training.teach import load_teacher, outputs_of

SOFT = 0.5  # share of the teacher's word against the labels'
TEMPERATURE = 2.0


def _work(context: Context, folder: Path) -> Figures:
    config = context.recipe.exits
    tuned = load_built(context, "full")
    tier = Tier(
        "full",
        tuned.backbone,
        tuned.depths,
        tuned.labels,
        own_head=tuned.own_head,
        head_width=config.head_width,
    ).to(context.device)
    if not tuned.own_head:
        tier.heads[-1] = tuned.heads[-1]
    learned = nn.ModuleList(tier.heads[: len(tier.depths) - 1])
    teacher = load_teacher(context)
    labels = torch.from_numpy(teacher.labels).long()

    def loss(rows: Rows) -> torch.Tensor:
        target = labels[rows].to(context.device)
        soft = teacher.logits[rows].to(context.device)
        total = torch.zeros((), device=context.device)
        for head, depth in zip(learned, tier.depths, strict=False):
            pooled = teacher.pooled[depth][rows].to(context.device).float()
            total = total + distillation(head(pooled), target, soft, SOFT, TEMPERATURE)
        return total

    options = Options(
        name="exits",
        epochs=epochs_for(config.epochs, len(teacher.tokens), config.batch_size, EXITS),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=context.recipe.seed,
    )
    done = 0
    if len(learned):
        lengths, journal, quiet = teacher.tokens.lengths, context.journal, context.quiet
        measure = _held_out(context, tier, learned) if config.epochs is None else None
        done = fit(learned, loss, lengths, options, folder, journal, quiet, measure)
    save_tier(tier, folder / "tier")
    return {"exits": len(tier.depths), "optimiser_steps": done}


def _held_out(context: Context, tier: Tier, heads: nn.ModuleList) -> Callable[[], float]:
    """The share of right answers to held-out rows, in the mean over the heads that learn."""
    tokens, labels = held_rows(context)
    tier.eval()
    pooled = outputs_of(context, tier, tokens)[1]
    states = [pooled[depth].to(context.device).float() for depth in tier.depths[: len(heads)]]

    def measure() -> float:
        pairs = zip(heads, states, strict=True)
        answers = [head(state).argmax(1).cpu().numpy() for head, state in pairs]
        return float(np.mean([share_right(each, labels) for each in answers]))

    return measure


STEP = Step("exits", ("data", "full", "teacher"), section("exits"), _work)
