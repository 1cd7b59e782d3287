"""How well one tier alone does on a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptive.tiers.tier import Tier
from adaptive.training.doubts import about_order
from adaptive.training.learn.answers import answers_of, share_right
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures


def answers_to(
    context: Context, tier: Tier, split: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """What the tier's last exit answers to a split, [n], and the labels; None without labels."""
    tokens, labels = load_rows(context.folder("data") / f"{split}.safetensors")
    if not len(labels) or (labels < 0).any():
        return None
    tier.eval()
    return answers_of(tier, tokens), labels


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
