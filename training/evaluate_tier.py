"""How well one tier alone does on a split."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.doubts import about_order
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures
from adaptive.types import Tokens

BATCH = 128


def answers_to(
    context: Context, tier: Tier, split: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """What the tier's last exit answers to a split, [n], and the labels; None without labels."""
    tokens, labels = load_rows(context.folder("data") / f"{split}.safetensors")
    if not len(labels) or (labels < 0).any():
        return None
    tier.eval()
    return answers_of(context, tier, tokens), labels


@torch.inference_mode()
def answers_of(context: Context, tier: Tier, tokens: Tokens) -> NDArray[np.int32]:
    """What the last exit of a tier in evaluation mode answers, [n]."""
    answers, last = np.zeros(len(tokens), np.int32), len(tier.depths) - 1
    for rows in token_rows.batches(tokens.lengths, BATCH):
        state = tier.embed(token_rows.pack(tokens, rows, context.device))
        state = tier.backbone.run(state, 0, tier.depths[last])
        answers[rows] = tier.answer(state, last)[0].argmax(1).cpu().numpy()
    return answers


def student_figures(context: Context, tier: Tier) -> Figures:
    """How well a student does on the fit rows, and what that says of the full tier."""
    found = answers_to(context, tier, "fit")
    if found is None:
        return {"fit_accuracy": None}
    accuracy, full = share_right(*found), context.figures("full")["fit_accuracy"]
    return {
        "fit_accuracy": accuracy,
        "warnings": about_order(full, accuracy, tier.name, len(found[1])),
    }


def share_right(answers: NDArray[np.int32], labels: NDArray[np.int32]) -> float:
    """Share of right answers."""
    return float((answers == labels).mean())
