"""How well one tier alone does on a split."""

from __future__ import annotations

import torch

from adaptive import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context

BATCH = 128


@torch.inference_mode()
def accuracy(context: Context, tier: Tier, split: str) -> float | None:
    """Share of right answers of the tier's last exit; None where rows have no labels."""
    tokens, labels = load_rows(context.folder("data") / f"{split}.safetensors")
    if not len(labels) or (labels < 0).any():
        return None
    tier.eval()
    right, last = 0, len(tier.depths) - 1
    for rows in token_rows.batches(tokens.lengths, BATCH):
        state = tier.embed(token_rows.pack(tokens, rows, context.device))
        state = tier.backbone.run(state, 0, tier.depths[last])
        answers = tier.answer(state, last)[0].argmax(1).cpu().numpy()
        right += int((answers == labels[rows]).sum())
    return right / len(labels)
