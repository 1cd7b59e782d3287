"""Heads at every depth of a trained tier, on its frozen hidden states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from adaptive.cells import Labels
from adaptive.events import Listener, ignore
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import device_of, share_right
from adaptive.training.learn.distill import distillation
from adaptive.training.learn.loop import Options, Rows, fit
from adaptive.training.learn.teacher import Teacher, outputs_of
from adaptive.types import Tokens

SOFT = 0.5  # share of the teacher's word against the labels'
TEMPERATURE = 2.0


def with_fresh_exits(tuned: Tier, head_width: int | None = None) -> Tier:
    """The same backbone and last exit, and untrained heads at all depths before it.

    Args:
        tuned: its last head is its own or a linear one, as a fine-tuned full tier's is.
        head_width: hidden units of the new heads; None for linear ones.
    """
    tier = Tier(
        tuned.name,
        tuned.backbone,
        tuned.depths,
        tuned.labels,
        own_head=tuned.own_head,
        head_width=head_width,
        last_linear=True,
    ).to(device_of(tuned))
    if not tuned.own_head:
        tier.heads[-1] = tuned.heads[-1]
    return tier


def fit_exits(
    tier: Tier,
    teacher: Teacher,
    options: Options,
    *,
    soft: float = SOFT,
    temperature: float = TEMPERATURE,
    held_out: Callable[[], float] | None = None,
    folder: Path | None = None,
    on_event: Listener = ignore,
    task: Task = SINGLE_LABEL,
) -> int:
    """Train the heads of all exits but the last on the tier's own outputs and labels.

    No layer runs: the heads read what `teacher.pooled` holds.

    Args:
        tier: its heads are changed in place, its backbone and last exit are not.
        teacher: outputs of this very tier on n rows, for instance by `outputs_of`.
        soft, temperature: of `distillation`.
        held_out: for instance `held_out_exits`; this and the rest as in `fit`.
        task: what the labels are.

    Returns:
        Optimiser steps done; 0 where there is nothing to train.
    """
    learned, place = _learned(tier), device_of(tier)
    if not len(learned):
        return 0
    labels = torch.from_numpy(teacher.labels)

    def loss(rows: Rows) -> torch.Tensor:
        target, said = labels[rows].to(place), teacher.logits[rows].to(place)
        total = torch.zeros((), device=place)
        for head, depth in zip(learned, tier.depths, strict=False):
            pooled = teacher.pooled[depth][rows].to(place).float()
            logits = head(pooled)
            total = total + distillation(logits, target, said, soft, temperature, task)
        return total

    lengths = teacher.tokens.lengths
    return fit(learned, loss, lengths, options, folder, on_event, held_out)


def held_out_exits(
    tier: Tier,
    tokens: Tokens,
    labels: Labels,
    *,
    bfloat16: bool = False,
    task: Task = SINGLE_LABEL,
) -> Callable[[], float]:
    """The share of right answers to held-out rows, in the mean over the heads that learn.

    Args:
        tokens, labels: n rows and their labels, [n, ...]. Their states are kept in memory.
        task: of other tasks than classes it is the mean score.
    """
    tier.eval()
    heads, place = _learned(tier), device_of(tier)
    pooled = outputs_of(tier, tokens, bfloat16=bfloat16)[1]
    states = [pooled[depth].to(place).float() for depth in tier.depths[: len(heads)]]

    def measure() -> float:
        pairs = zip(heads, states, strict=True)
        answers = [task.answers(task.scores(head(state).float())) for head, state in pairs]
        return float(np.mean([share_right(each, labels, task) for each in answers]))

    return measure


def _learned(tier: Tier) -> nn.ModuleList:
    """The heads of all exits but the last."""
    return nn.ModuleList(tier.heads[: len(tier.depths) - 1])
