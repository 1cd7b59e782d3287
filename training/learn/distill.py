"""The loss of students, and the loop that trains all exits of one jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from adaptive import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import device_of
from adaptive.training.learn.loop import Log, Options, Rows, fit
from adaptive.training.learn.teacher import Teacher


def distillation(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor,
    weight: float,
    temperature: float,
) -> torch.Tensor:
    """Mean of soft and hard cross-entropy (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Args:
        logits: [b, c] of the student.
        labels: [b], -1 where unknown: such rows learn from the teacher alone.
        teacher: [b, c] logits.
        weight: share of the soft loss on labelled rows.
        temperature: of the soft loss, which is scaled by its square.
    """
    logits = logits.float()
    soft = functional.kl_div(
        (logits / temperature).log_softmax(1),
        (teacher.float() / temperature).log_softmax(1),
        reduction="none",
        log_target=True,
    ).sum(1) * (temperature**2)
    known = labels >= 0
    hard = functional.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    return torch.where(known, weight * soft + (1 - weight) * hard, soft).mean()


def distill(
    tier: Tier,
    teacher: Teacher,
    options: Options,
    *,
    weight: float = 0.5,
    temperature: float = 2.0,
    held_out: Callable[[], float] | None = None,
    imitate: dict[int, int] | None = None,
    hidden_weight: float = 0.0,
    dropout: float = 0.0,
    sparse: Sequence[nn.Parameter] = (),
    folder: Path | None = None,
    journal: Log | None = None,
    quiet: bool = True,
) -> int:
    """Train backbone and all exits of a tier together on a teacher's outputs and labels.

    Args:
        tier: the student, changed in place.
        teacher: n rows, and what the larger tier computed for them.
        weight, temperature: of `distillation`.
        held_out, sparse, folder, journal, quiet: as in `fit`.
        imitate: depth of the student -> depth of the teacher whose pooled hidden state it
            shall resemble (cosine distance), weighed by `hidden_weight`.
        dropout: share of each text's tokens hidden from the student, so that it does not
            lean on single words.

    Returns:
        Optimiser steps done.
    """
    tokens, labels = teacher.tokens, torch.from_numpy(teacher.labels).long()
    imitate, place = imitate or {}, device_of(tier)

    def loss(rows: Rows) -> torch.Tensor:
        batch = token_rows.pack(tokens, rows, place)
        if dropout:
            seen = torch.rand(batch.ids.shape, device=place) >= dropout
            batch = replace(batch, seen=seen)
        target = labels[rows].to(place)
        soft = teacher.logits[rows].to(place)
        state, total = tier.embed(batch), torch.zeros((), device=place)
        for exit, depth in enumerate(tier.depths):
            state = tier.advance(state, exit)
            logits, pooled = tier.answer(state, exit)
            total = total + distillation(logits, target, soft, weight, temperature)
            if depth in imitate:
                model = teacher.pooled[imitate[depth]][rows].to(place).float()
                distance = 1 - functional.cosine_similarity(pooled.float(), model, dim=1)
                total = total + hidden_weight * distance.mean()
        return total / len(tier.depths)

    return fit(tier, loss, tokens.lengths, options, folder, journal, quiet, held_out, sparse)
