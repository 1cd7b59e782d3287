"""Fine-tuning a tier on labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adaptive.cells import Labels
from adaptive.events import Listener, ignore
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.adalora import ORTHOGONAL, orthogonality
from adaptive.training.learn.answers import device_of
from adaptive.training.learn.loop import Options, Rows, fit
from adaptive.types import Tokens


def fine_tune(
    tier: Tier,
    tokens: Tokens,
    labels: Labels,
    options: Options,
    *,
    held_out: Callable[[], float] | None = None,
    folder: Path | None = None,
    on_event: Listener = ignore,
    task: Task = SINGLE_LABEL,
    adalora: Any = None,
) -> int:
    """Train a tier and its last exit by the task's loss, of classes cross-entropy.

    Args:
        tier: changed in place. Parameters that require no gradient stay as they are.
        tokens: n rows, one a text.
        labels: [n, ...], all known; of classes in [0, classes).
        held_out, folder, on_event: as in `fit`.
        task: what the labels are.
        adalora: peft's AdaLoRA model around the tier's body, its schedule made for this training;
            its orthogonality is part of the loss, and it takes rank away after each step.

    Returns:
        Optimiser steps done.
    """
    place, last = device_of(tier), len(tier.depths) - 1
    targets = torch.from_numpy(labels).to(place)

    def loss(rows: Rows) -> torch.Tensor:
        state = tier.embed(token_rows.pack(tokens, rows, place))
        state = tier.backbone.run(state, 0, tier.depths[last])
        logits, _ = tier.answer(state, last)
        value = task.hard_loss(logits.float(), targets[rows]).mean()
        return value if adalora is None else value + ORTHOGONAL * orthogonality(adalora)

    after = None if adalora is None else adalora.update_and_allocate
    return fit(tier, loss, tokens.lengths, options, folder, on_event, held_out, after=after)
