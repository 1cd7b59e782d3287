"""What each token did for an answer, by integrated gradients through captum (an extra).

Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) go from a blank text to the
text, and share the change of the answer's log-probability (`Task.evidence`) out over the tokens.
They start behind the embedding layer, as captum's `LayerIntegratedGradients` do, but without its
hooks: those sit on the model, where other threads would run into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers.decoders import ByteLevel

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.text import tokens as token_rows
from adaptive.tiers.state import Parted
from adaptive.tiers.store import in_torch
from adaptive.tiers.tier import Tier
from adaptive.types import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaptive.pipeline import AdaptivePipeline

Attributions = tuple[tuple[str, float], ...]
STEPS = 64  # points on the path from the blank text
ROWS = 16  # points run at once


def attribute(
    pipeline: AdaptivePipeline, text: str | Mapping[str, str] | tuple[str, str]
) -> list[tuple[str, float]]:
    """Each token of a text or pair, and what it did for the label the text was answered with.

    Scores are in nats. They add up to the label's log-probability at the stage that answered,
    less that of a blank text: the same with a neutral token in every place, special tokens
    left as they are, or for a bag a text without tokens.

    Raises:
        InputError: the item is no text and no pair.
        ImportError: captum is not installed (the extra `explain`).
    """
    tokens = pipeline.row(text)
    answers = answer(pipeline.bundle, tokens, pipeline.policy, 1)
    label = int(answers.label[0])
    return list(attribute_row(pipeline.bundle, tokens, int(answers.stage[0]), label))


def attribute_row(bundle: Bundle, tokens: Tokens, stage: int, label: int) -> Attributions:
    """The tokens of one row, and what each did for the log-probability of `label` at `stage`.

    Layers in int8 or in ONNX Runtime have no gradient; what is told of such a tier is told of its
    float32 weights.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError(
            "attributions need captum: pip install 'adaptive-cascade[explain]'"
        ) from error
    tier = in_torch(bundle.tiers[bundle.stages[stage].tier])
    batch = token_rows.pack(tokens, np.array([0]), bundle.device)
    with torch.no_grad():
        parted = tier.backbone.parted(batch, replace(batch, ids=_blank(bundle, batch.ids)))
    scores = IntegratedGradients(_forward(bundle, tier, parted, stage, label)).attribute(
        parted.given, baselines=parted.blank, n_steps=STEPS, internal_batch_size=ROWS
    )
    names = readable(bundle.tokenizer, tokens.ids.tolist())
    return tuple(zip(names, scores.sum(-1)[0].tolist(), strict=True))


def readable(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Tokens as their tokenizer has them, those of bytes as text: `für` where it has `fÃ¼r`.

    A token that holds a part of a character is shown as U+FFFD.
    """
    found = tokenizer.convert_ids_to_tokens(list(ids))
    names = [found] if isinstance(found, str) else found
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if not isinstance(decoder, ByteLevel):
        return names
    return [decoder.decode([name]) for name in names]


def _forward(
    bundle: Bundle, tier: Tier, parted: Parted, stage: int, label: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """From rows [s, w, h] before the first layer to the label's log-probability [s]."""

    def forward(given: torch.Tensor) -> torch.Tensor:
        now, exit = parted.joined(given), bundle.stages[stage].exit
        for each in range(exit + 1):
            now = tier.advance(now, each)
        logits = bundle.reliability.temper(stage, tier.answer(now, exit)[0])
        return bundle.task.evidence(logits)[:, label]

    return forward


def _blank(bundle: Bundle, ids: torch.Tensor) -> torch.Tensor:
    """The same row with a neutral token in place of every ordinary one."""
    tokenizer = bundle.tokenizer
    neutral = [tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]
    marks = [
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
    ]
    kept = torch.tensor([m for m in marks if m is not None], dtype=ids.dtype, device=ids.device)
    filler = next((n for n in neutral if n is not None), bundle.pad_id)
    blank: torch.Tensor = torch.where(torch.isin(ids, kept), ids, torch.full_like(ids, filler))
    return blank
