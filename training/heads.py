"""Step `exits`: heads at every depth of the full tier, on its frozen hidden states."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.training.distill import distillation
from adaptive.training.loop import Options, Rows, fit
from adaptive.training.parts import load_built
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.training.teach import load_teacher

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
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=context.recipe.seed,
    )
    if len(learned):
        fit(learned, loss, teacher.tokens.lengths, options, folder, context.journal, context.quiet)
    save_tier(tier, folder / "tier")
    return {"exits": len(tier.depths)}


STEP = Step("exits", ("data", "full", "teacher"), section("exits"), _work)
