"""How long to train where a recipe does not say, and the measure that stops training early.

Epochs say little of how much is learnt: two of 60,000 rows are 3,750 optimiser steps, two of 2,000
are 126. So what a recipe leaves open is counted in optimiser steps, and a measure on *fit* rows
keeps what is too long from doing harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from adaptive.cells import Labels, known_labels
from adaptive.config.tiers import JointTier, PrunedTier
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import answers_of, share_right
from adaptive.training.learn.loop import Options
from adaptive.training.parts import load_built, task_of
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context
from adaptive.types import Tokens

# optimiser steps at least, of each part
FULL, MID, JOINT, TINY, EXITS = 600, 1000, 500, 1000, 2000
LEAST, MOST = 2, 30  # epochs
HELD_OUT = 1000  # rows that are looked at after each epoch


def epochs_for(given: int | None, rows: int, batch_size: int, steps: int) -> int:
    """Epochs of a training: as given, or as many as hold `steps` optimiser steps.

    Few rows are not gone over more than `MOST` times, many not less than `LEAST`.
    """
    if given is not None:
        return given
    batches = max(1, math.ceil(rows / batch_size))
    return min(MOST, max(LEAST, math.ceil(steps / batches)))


def layer_options(
    config: PrunedTier | JointTier, context: Context, rows: int, steps: int, rate: float
) -> Options:
    """How a tier made of the full one's layers is distilled.

    Args:
        rows: to learn from.
        steps: of the optimiser at least, where the recipe gives no epochs.
    """
    return Options(
        name=config.name,
        epochs=epochs_for(config.epochs, rows, config.batch_size, steps),
        batch_size=config.batch_size,
        learning_rate=rate,
        weight_decay=0.01,
        bfloat16=context.recipe.model.dtype == "bfloat16",
        seed=context.recipe.seed,
    )


def held_out(context: Context, tier: Tier, given: int | None) -> Callable[[], float] | None:
    """The share of `held_rows` that the tier's last exit answers rightly, whenever it is asked.

    Of other tasks than classes it is the mean score.

    Args:
        given: the recipe's epochs, of which none is left out; then there is nothing to ask.
    """
    if given is not None:
        return None
    tokens, labels = held_rows(context)
    task = task_of(context)
    return lambda: share_right(answers_of(tier, tokens, task), labels, task)


def held_rows(context: Context) -> tuple[Tokens, Labels]:
    """*Fit* rows, `HELD_OUT` at most and evenly spaced, and the right answers to them.

    Those are their labels; without labels, the full tier's answers.
    """
    tokens, labels = load_rows(context.folder("data") / "fit.safetensors")
    if len(tokens) > HELD_OUT:
        rows = np.linspace(0, len(tokens) - 1, HELD_OUT).astype(np.int64)
        tokens, labels = token_rows.select(tokens, rows), labels[rows]
    if not known_labels(labels):
        labels = answers_of(load_built(context, "full"), tokens, task_of(context))
    return tokens, labels
