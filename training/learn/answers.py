"""What a tier's last exit answers, and how often that is right."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.types import Tokens

BATCH = 128


def device_of(tier: Tier) -> torch.device:
    """Where a tier lies."""
    return tier.backbone.embedding_table.device


@torch.inference_mode()
def answers_of(tier: Tier, tokens: Tokens) -> NDArray[np.int32]:
    """What the last exit of a tier in evaluation mode answers, [n]."""
    answers, last = np.zeros(len(tokens), np.int32), len(tier.depths) - 1
    for rows in token_rows.batches(tokens.lengths, BATCH):
        state = tier.embed(token_rows.pack(tokens, rows, device_of(tier)))
        state = tier.backbone.run(state, 0, tier.depths[last])
        answers[rows] = tier.answer(state, last)[0].argmax(1).cpu().numpy()
    return answers


def share_right(answers: NDArray[np.int32], labels: NDArray[np.int32]) -> float:
    """Share of right answers."""
    return float((answers == labels).mean())
