"""Step `teacher`: the full tier's outputs on all training text, kept for every student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from adaptive import tokens as token_rows
from adaptive.training.parts import load_built, pad_id_of
from adaptive.training.rows import load_training_rows
from adaptive.training.steps import Context, Figures, Step

BATCH = 128


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the full tier computed for the train split and the unlabelled texts."""

    logits: torch.Tensor  # [n, c] float16
    pooled: torch.Tensor  # [layers + 1, n, h] float16, pooled hidden states at every depth


@torch.inference_mode()
def _work(context: Context, folder: Path) -> Figures:
    tier, pad_id = load_built(context, "full"), pad_id_of(context)
    tokens, _ = load_training_rows(context.folder("data"))
    depth = tier.backbone.layers
    batches = token_rows.batches(tokens.lengths, BATCH)
    logits, pooled = [], []
    for rows in tqdm(batches, desc="teacher", disable=context.quiet):
        state = tier.embed(token_rows.pad(tokens, rows, pad_id, context.device))
        seen = [tier.backbone.pool(state)]
        for layer in range(depth):
            state = tier.backbone.run(state, layer, layer + 1)
            seen.append(tier.backbone.pool(state))
        logits.append(_half(tier.answer(state, len(tier.depths) - 1)[0]))
        pooled.append(_half(torch.stack(seen)))
    order = torch.from_numpy(np.argsort(np.concatenate(batches)))
    content = {"logits": torch.cat(logits)[order], "pooled": torch.cat(pooled, 1)[:, order]}
    save_file(content, folder / "teacher.safetensors")
    return {"rows": len(tokens)}


def _half(values: torch.Tensor) -> torch.Tensor:
    """float16 on the host; what is out of its range, as in some decoders, becomes its end."""
    most = torch.finfo(torch.float16).max
    return values.float().clamp(-most, most).half().cpu()


def load_teacher(context: Context) -> Teacher:
    """What the step left."""
    return Teacher(**load_file(context.folder("teacher") / "teacher.safetensors"))


STEP = Step("teacher", ("data", "full"), lambda context: None, _work)
