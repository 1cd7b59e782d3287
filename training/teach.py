"""Step `teacher`: the full tier's outputs on all training text, kept for every student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from adaptive import tokens as token_rows
from adaptive.config.recipe import Recipe
from adaptive.errors import BuildError
from adaptive.tiers.tier import Tier
from adaptive.training.augment import augment
from adaptive.training.loop import autocast
from adaptive.training.parts import load_built, max_length_of, tokenizer_of
from adaptive.training.rows import load_rows, load_training_rows, save_rows
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import Tokens

BATCH = 128


@dataclass(frozen=True, slots=True)
class Teacher:
    """All training text, and what the full tier computed for it.

    The rows are the train split's, then the unlabelled texts', then made-up ones.
    """

    tokens: Tokens  # n rows
    labels: NDArray[np.int32]  # [n], -1 where there is none
    logits: torch.Tensor  # [n, c] float16
    pooled: torch.Tensor  # [layers + 1, n, h] float16, pooled hidden states at every depth


def _reads(context: Context) -> Mapping[str, Any] | None:
    """The seed too, where texts are made up."""
    return section("teacher")(context) if context.recipe.teacher.augment else None


def _work(context: Context, folder: Path) -> Figures:
    tokens, labels = _rows(context)
    logits, pooled = outputs_of(context, load_built(context, "full"), tokens)
    save_file({"logits": logits, "pooled": pooled}, folder / "teacher.safetensors")
    save_rows(folder / "rows.safetensors", tokens, labels)
    return {"rows": len(tokens)}


@torch.inference_mode()
def outputs_of(context: Context, tier: Tier, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """The full tier's logits [n, c] and pooled hidden states [layers + 1, n, h], float16."""
    depth = tier.backbone.layers
    batches = token_rows.batches(tokens.lengths, BATCH)
    logits, pooled = [], []
    for rows in tqdm(batches, desc="teacher", disable=context.quiet):
        with autocast(context.device, context.recipe.model.dtype == "bfloat16"):
            state = tier.embed(token_rows.pack(tokens, rows, context.device))
            seen = [tier.backbone.pool(state)]
            for layer in range(depth):
                state = tier.backbone.run(state, layer, layer + 1)
                seen.append(tier.backbone.pool(state))
            answer = tier.answer(state, len(tier.depths) - 1)[0]
        logits.append(_half(answer))
        pooled.append(_half(torch.stack(seen)))
        context.journal.at(len(logits), len(batches), "batches")
    order = torch.from_numpy(np.argsort(np.concatenate(batches)))
    return torch.cat(logits)[order], torch.cat(pooled, 1)[:, order]


def _rows(context: Context) -> tuple[Tokens, NDArray[np.int32]]:
    recipe = context.recipe
    tokens, labels = load_training_rows(context.folder("data"))
    copies = recipe.teacher.augment
    if not copies:
        return tokens, labels
    special = frozenset(tokenizer_of(context).all_special_ids)
    made = augment(tokens, copies, special, max_length_of(context), recipe.seed)
    none = np.full(len(made), -1, np.int32)
    return token_rows.concatenate([tokens, made]), np.concatenate([labels, none])


def check(recipe: Recipe) -> None:
    """Raise BuildError where texts are to be made up of pairs."""
    if recipe.teacher.augment and recipe.data.pair is not None:
        raise BuildError("teacher.augment cuts single texts; set it to 0 for pairs")


def _half(values: torch.Tensor) -> torch.Tensor:
    """float16 on the host; what is out of its range, as in some decoders, becomes its end."""
    most = torch.finfo(torch.float16).max
    return values.float().clamp(-most, most).half().cpu()


def load_teacher(context: Context) -> Teacher:
    """What the step left."""
    folder = context.folder("teacher")
    tokens, labels = load_rows(folder / "rows.safetensors")
    return Teacher(tokens, labels, **load_file(folder / "teacher.safetensors"))


STEP = Step("teacher", ("data", "full"), _reads, _work)
