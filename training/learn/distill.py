"""The loss of students, and the loop that trains all exits of one jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from adaptive.events import Listener, ignore
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import device_of
from adaptive.training.learn.loop import Options, Rows, fit
from adaptive.training.learn.teacher import Teacher


def distillation(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor,
    weight: float,
    temperature: float,
    task: Task = SINGLE_LABEL,
) -> torch.Tensor:
    """Mean of soft and hard losses (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Args:
        logits: [b, c] of the student.
        labels: [b, ...]; rows whose label is not known learn from the teacher alone.
        teacher: [b, c] logits.
        weight: share of the soft loss on labelled rows.
        temperature: of the soft loss, which is scaled by its square.
        task: whose losses these are.
    """
    logits = logits.float()
    soft = task.soft_loss(logits, teacher.float(), temperature)
    hard = task.hard_loss(logits, labels)
    return torch.where(_known(labels), weight * soft + (1 - weight) * hard, soft).mean()


def _known(labels: torch.Tensor) -> torch.Tensor:
    """The same as `adaptive.cells.known`, of a tensor."""
    known = ~labels.isnan() if labels.is_floating_point() else labels >= 0
    return known if known.ndim == 1 else known.flatten(1).all(1)


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
    on_event: Listener = ignore,
    task: Task = SINGLE_LABEL,
) -> int:
    """Train backbone and all exits of a tier together on a teacher's outputs and labels.

    Args:
        tier: the student, changed in place.
        teacher: n rows, and what the larger tier computed for them.
        weight, temperature: of `distillation`.
        held_out, sparse, folder, on_event: as in `fit`.
        imitate: depth of the student -> depth of the teacher whose pooled hidden state it
            shall resemble (cosine distance), weighed by `hidden_weight`.
        dropout: share of each text's tokens hidden from the student, so that it does not
            lean on single words.
        task: what the labels are.

    Returns:
        Optimiser steps done.
    """
    tokens, labels = teacher.tokens, torch.from_numpy(teacher.labels)
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
            total = total + distillation(logits, target, soft, weight, temperature, task)
            if depth in imitate:
                model = teacher.pooled[imitate[depth]][rows].to(place).float()
                distance = 1 - functional.cosine_similarity(pooled.float(), model, dim=1)
                total = total + hidden_weight * distance.mean()
        return total / len(tier.depths)

    return fit(tier, loss, tokens.lengths, options, folder, on_event, held_out, sparse)
