"""Fine-tuning a classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptive import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import device_of
from adaptive.training.learn.loop import Log, Options, Rows, fit
from adaptive.types import Tokens


def fine_tune(
    tier: Tier,
    tokens: Tokens,
    labels: NDArray[np.int32],
    options: Options,
    *,
    held_out: Callable[[], float] | None = None,
    folder: Path | None = None,
    journal: Log | None = None,
    quiet: bool = True,
) -> int:
    """Train a tier and its last exit by cross-entropy.

    Args:
        tier: changed in place. Parameters that require no gradient stay as they are.
        tokens: n rows, one a text.
        labels: [n] in [0, classes).
        held_out, folder, journal, quiet: as in `fit`.

    Returns:
        Optimiser steps done.
    """
    place, last = device_of(tier), len(tier.depths) - 1
    targets = torch.from_numpy(labels).long().to(place)

    def loss(rows: Rows) -> torch.Tensor:
        state = tier.embed(token_rows.pack(tokens, rows, place))
        state = tier.backbone.run(state, 0, tier.depths[last])
        logits, _ = tier.answer(state, last)
        return functional.cross_entropy(logits.float(), targets[rows])

    return fit(tier, loss, tokens.lengths, options, folder, journal, quiet, held_out)
