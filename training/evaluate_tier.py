"""How well one tier alone does on a split."""

from __future__ import annotations

from adaptive.cells import Labels, known_labels
from adaptive.tiers.tier import Tier
from adaptive.training.doubts import about_order
from adaptive.training.learn.answers import answers_of, share_right
from adaptive.training.parts import task_of
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures


def answers_to(context: Context, tier: Tier, split: str) -> tuple[Labels, Labels] | None:
    """What the tier's last exit answers to a split, and the labels; None without labels."""
    tokens, labels = load_rows(context.folder("data") / f"{split}.safetensors")
    if not len(labels) or not known_labels(labels):
        return None
    tier.eval()
    return answers_of(tier, tokens, task_of(context)), labels


def student_figures(context: Context, tier: Tier) -> Figures:
    """How well a student does on the fit rows, and what that says of the full tier."""
    found = answers_to(context, tier, "fit")
    if found is None:
        return {"fit_accuracy": None}
    task, full = task_of(context), context.figures("full")["fit_accuracy"]
    accuracy = share_right(*found, task)
    doubts = about_order(full, accuracy, tier.name, len(found[1])) if task.exclusive else []
    return {"fit_accuracy": accuracy, "warnings": doubts}
