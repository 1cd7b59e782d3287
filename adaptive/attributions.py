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

from adaptive import tokens as token_rows
from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.tiers.bag import Bag
from adaptive.tiers.state import Packed, State
from adaptive.tiers.store import in_torch
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaptive.pipeline import AdaptivePipeline

Attributions = tuple[tuple[str, float], ...]
STEPS = 64  # points on the path from the blank text
ROWS = 16  # points run at once

_Forward = Callable[[torch.Tensor], torch.Tensor]


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
        if isinstance(tier.backbone, Bag):
            given, forward = _bag_parts(tier.backbone, batch), _of_bag(bundle, tier, stage, label)
            blank = torch.zeros_like(given)
        else:
            state = tier.embed(batch)
            given, forward = state.hidden.float(), _of_layers(bundle, tier, state, stage, label)
            blank = tier.embed(replace(batch, ids=_blank(bundle, batch.ids))).hidden.float()
    scores = IntegratedGradients(forward).attribute(
        given, baselines=blank, n_steps=STEPS, internal_batch_size=ROWS
    )
    names = readable(bundle.tokenizer, tokens.ids.tolist())
    return tuple(zip(names, scores.sum(-1)[0].tolist(), strict=True))


def readable(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Tokens as their tokenizer has them, those of bytes as text: `für` where it has `fÃ¼r`.

    A token that holds a part of a character is shown as U+FFFD.
    """
    names: list[str] = tokenizer.convert_ids_to_tokens(list(ids))
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if not isinstance(decoder, ByteLevel):
        return names
    return [decoder.decode([name]) for name in names]


def _of_layers(bundle: Bundle, tier: Tier, state: State, stage: int, label: int) -> _Forward:
    """From hidden states before the first layer, [s, w, h], to the label's log-probability [s]."""
    dtype = state.hidden.dtype

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        now = state.select(np.zeros(len(hidden), dtype=np.int64))
        now = replace(now, hidden=hidden.to(dtype).reshape(now.hidden.shape))
        exit = bundle.stages[stage].exit
        for each in range(exit + 1):
            now = tier.advance(now, each)
        return _evidence(bundle, tier.answer(now, exit)[0], stage, label)

    return forward


def _of_bag(bundle: Bundle, tier: Tier, stage: int, label: int) -> _Forward:
    """From the parts of a bag, [s, w, h], to the label's log-probability [s]."""
    dtype = tier.backbone.embedding_table.dtype

    def forward(parts: torch.Tensor) -> torch.Tensor:
        pooled = parts.sum(1).to(dtype).unsqueeze(0)
        state = State(pooled, Packed(np.ones(len(parts), dtype=np.int64), parts.device))
        return _evidence(bundle, tier.answer(state, 0)[0], stage, label)

    return forward


def _evidence(bundle: Bundle, logits: torch.Tensor, stage: int, label: int) -> torch.Tensor:
    return bundle.task.evidence(bundle.reliability.temper(stage, logits))[:, label]


def _bag_parts(bag: Bag, batch: TokenBatch) -> torch.Tensor:
    """What each token adds to a bag's vector, [1, w, h]: its own share, half of each pair's."""
    ids = batch.ids
    parts: torch.Tensor = bag.score[ids].float().softmax(0).unsqueeze(1) * bag.table(ids).float()
    if bag.pairs is not None and len(ids) > 1:
        both = torch.stack([ids[:-1], ids[1:]], 1)
        shares = bag.score[both].float().softmax(1).unsqueeze(2)
        alone = (shares * bag.table(both).float()).sum(1)
        batch = TokenBatch(both.flatten(), np.full(len(both), 2))
        pairs = bag.embed(batch).hidden[0].float() - alone
        half = pairs / (2 * len(pairs))
        parts[:-1] += half
        parts[1:] += half
    return parts.unsqueeze(0)


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
