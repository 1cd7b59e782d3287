"""Step `teacher`: the full tier's outputs on all training text, kept for every student.

The rows are the train split's, then the unlabelled texts', then made-up ones.

Where the recipe does not say how many are made up, there are as many as bring the rows to `ENOUGH`,
at most `MOST` for each text. With four each on 2,000 rows of CLINC150, *mid* answered 91.3 % of the
search rows as labelled, without them 89.2 % (tiny 83.8 and 80.9 %, the full tier 92.5 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adaptive.cells import Labels, unknown_like
from adaptive.config.recipe import Recipe
from adaptive.errors import BuildError
from adaptive.text import tokens as token_rows
from adaptive.training.augment import augment
from adaptive.training.learn.teacher import Teacher, read_outputs, write_outputs
from adaptive.training.parts import load_built, max_length_of, tokenizer_of
from adaptive.training.rows import load_rows, load_training_rows, save_rows
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import Tokens

ENOUGH = 10_000  # rows for students to learn from
MOST = 4  # made-up texts for each text, where the recipe does not say


def _reads(context: Context) -> Mapping[str, Any] | None:
    """The seed too, where texts are made up."""
    return section("teacher")(context) if _asked(context.recipe) != 0 else None


def _work(context: Context, folder: Path) -> Figures:
    tokens, labels, made_up = _rows(context)
    write_outputs(
        load_built(context, "full"),
        tokens,
        folder,
        bfloat16=context.recipe.model.dtype == "bfloat16",
        on_event=context.on_event,
    )
    save_rows(folder / "rows.safetensors", tokens, labels)
    return {"rows": len(tokens), "made_up": made_up}


def copies_for(recipe: Recipe, rows: int) -> int:
    """Made-up texts for each of `rows` texts: as the recipe says, else up to `ENOUGH` rows."""
    asked = _asked(recipe)
    if asked is not None or not rows:
        return asked or 0
    return min(MOST, max(0, round(ENOUGH / rows) - 1))


def _asked(recipe: Recipe) -> int | None:
    """What the recipe says; none for pairs, nor where it says how long a student learns."""
    given = recipe.data.pair is not None or any(student.epochs for student in recipe.small)
    return 0 if recipe.teacher.augment is None and given else recipe.teacher.augment


def _rows(context: Context) -> tuple[Tokens, Labels, int]:
    recipe = context.recipe
    tokens, labels = load_training_rows(context.folder("data"))
    copies = copies_for(recipe, len(tokens))
    if not copies:
        return tokens, labels, 0
    special = frozenset(tokenizer_of(context).all_special_ids)
    made = augment(tokens, copies, special, max_length_of(context), recipe.seed)
    none = unknown_like(labels, len(made))
    return token_rows.concatenate([tokens, made]), np.concatenate([labels, none]), len(made)


def check(recipe: Recipe) -> None:
    """Raise BuildError where texts are to be made up of pairs."""
    if recipe.teacher.augment and recipe.data.pair is not None:
        raise BuildError("teacher.augment cuts single texts; set it to 0 for pairs")


def load_teacher(context: Context) -> Teacher:
    """What the step left; of what the full tier computed nothing is in memory yet."""
    folder = context.folder("teacher")
    tokens, labels = load_rows(folder / "rows.safetensors")
    return Teacher(tokens, labels, *read_outputs(folder))


STEP = Step("teacher", ("data", "full"), _reads, _work)
