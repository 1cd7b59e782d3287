"""How each family's own modules are called, one layer at a time.

Three kinds of functions, which the table in `families` combines:

- embed: token ids to hidden states, before any layer;
- prepare: masks and position information for layers, made from the hidden states and how
  rows lie in them, given back as a function that runs one layer;
- classify: the model's own final norm, pooling and classifier.

They follow each family's `forward` in transformers and copy none of its modules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import masking_utils

from adaptive.tiers.attention import Sight
from adaptive.tiers.state import Packed, Padded, State, Step
from adaptive.types import TokenBatch


def embed_encoder(body: Any, batch: TokenBatch, layout: Packed) -> torch.Tensor:
    """Embeddings with positions, and segment ids where the model has any: [1, t, h]."""
    return _embed(body, batch, layout, layout.positions)


def embed_shifted(body: Any, batch: TokenBatch, layout: Packed) -> torch.Tensor:
    """RoBERTa's: positions count the tokens that are no padding, from behind the padding id."""
    pad = body.embeddings.padding_idx
    real = (batch.ids != pad).long()
    count = real.cumsum(0)
    before = (count - real).index_select(0, layout.starts).index_select(0, layout.owner)
    return _embed(body, batch, layout, (count - before) * real + pad)


def embed_rotary(body: Any, batch: TokenBatch, layout: Packed) -> torch.Tensor:
    """ModernBERT's, without positions: those are in its attention."""
    hidden: torch.Tensor = body.embeddings(input_ids=layout.lay(batch.ids))
    return hidden


def embed_padded(body: Any, batch: TokenBatch, layout: Padded) -> torch.Tensor:
    """MPNet's, which finds positions from padded ids: [b, w, h]."""
    hidden: torch.Tensor = body.embeddings(
        input_ids=layout.lay(batch.ids, body.embeddings.padding_idx)
    )
    return hidden


def embed_masked(body: Any, batch: TokenBatch, layout: Padded) -> torch.Tensor:
    """DeBERTa's embeddings, zero at padding: its convolution looks at neighbours."""
    hidden: torch.Tensor = body.embeddings(
        input_ids=layout.lay(batch.ids, body.config.pad_token_id or 0),
        token_type_ids=None if batch.types is None else layout.lay(batch.types),
        mask=layout.mask,
    )
    return hidden


def embed_decoder(body: Any, batch: TokenBatch, layout: Packed) -> torch.Tensor:
    """The bare token table; decoders bring positions into their attention."""
    hidden: torch.Tensor = body.embed_tokens(layout.lay(batch.ids))
    return hidden


def _embed(body: Any, batch: TokenBatch, layout: Packed, positions: torch.Tensor) -> torch.Tensor:
    typed = getattr(body.config, "type_vocab_size", 0) > 1 and batch.types is not None
    types = batch.types if typed else None
    if torch.is_grad_enabled() or body.training:
        extra = {} if types is None else {"token_type_ids": layout.lay(types)}
        hidden: torch.Tensor = body.embeddings(
            input_ids=layout.lay(batch.ids), position_ids=layout.lay(positions), **extra
        )
    else:
        hidden = layout.lay(_summed(body.embeddings, batch.ids, positions, types))
    if hasattr(body, "embeddings_project"):  # ELECTRA with a narrow embedding table
        hidden = body.embeddings_project(hidden)
    return hidden


def _summed(
    parts: Any, ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor | None
) -> torch.Tensor:
    """What the module `parts` computes, [t, h], in place: in a third of the time on a CPU."""
    hidden: torch.Tensor = parts.word_embeddings(ids)
    kinds = getattr(parts, "token_type_embeddings", None)
    if kinds is not None:
        hidden += kinds.weight[0] if types is None else kinds(types)
    hidden += parts.position_embeddings(positions)
    normed: torch.Tensor = parts.LayerNorm(hidden)
    return normed


def prepare_encoder(body: Any, hidden: torch.Tensor, layout: Packed) -> Step:
    """Layers that see all of their row and take nothing else."""
    sight = _sight(hidden, layout)
    return lambda i, layer, states: first(layer(states, sight))


def prepare_relative(body: Any, hidden: torch.Tensor, layout: Padded) -> Step:
    """MPNet: one relative position bias, shared by the layers."""
    attention = masking_utils.create_bidirectional_mask(
        config=body.config, inputs_embeds=hidden, attention_mask=layout.mask
    )
    bias = body.encoder.compute_position_bias(hidden)
    return lambda i, layer, states: first(layer(states, attention, bias))


def prepare_disentangled(body: Any, hidden: torch.Tensor, layout: Padded) -> Step:
    """DeBERTa: relative positions and their embeddings; a convolution beside layer 0."""
    encoder = body.encoder
    padding = layout.mask.long()
    attention = encoder.get_attention_mask(padding)
    positions = encoder.get_rel_pos(hidden)
    table = encoder.get_rel_embedding()

    def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
        out = first(layer(states, attention, relative_pos=positions, rel_embeddings=table))
        if i == 0 and encoder.conv is not None:
            out = encoder.conv(states, out, padding)
        return out

    return step


def prepare_rotary_encoder(body: Any, hidden: torch.Tensor, layout: Packed) -> Step:
    """ModernBERT: global and local layers, each kind with its own sight and rotation."""
    sights = {
        "full_attention": _sight(hidden, layout),
        "sliding_attention": _sight(hidden, layout, window=body.config.sliding_window),
    }
    return _rotary_step(body, hidden, layout, body.config.layer_types, sights)


def prepare_decoder(body: Any, hidden: torch.Tensor, layout: Packed) -> Step:
    """Causal layers with rotary positions; some may see a sliding window only."""
    config = body.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(body.layers)
    sights = {"full_attention": _sight(hidden, layout, causal=True)}
    if "sliding_attention" in kinds:  # a causal window counts the token itself
        window = config.sliding_window - 1
        sights["sliding_attention"] = _sight(hidden, layout, causal=True, window=window)
    return _rotary_step(body, hidden, layout, kinds, sights)


def _sight(
    hidden: torch.Tensor, layout: Packed, causal: bool = False, window: int | None = None
) -> Sight:
    return Sight(layout, hidden.dtype, causal, window)


def _rotary_step(
    body: Any, hidden: torch.Tensor, layout: Packed, kinds: list[str], sights: dict[str, Sight]
) -> Step:
    """Each layer with the sight and the rotation of its kind."""
    positions = layout.lay(layout.positions)
    if hasattr(body.rotary_emb, "layer_types"):  # some families rotate each kind its own way
        rotations = {kind: body.rotary_emb(hidden, positions, kind) for kind in set(kinds)}
    else:
        rotations = dict.fromkeys(kinds, body.rotary_emb(hidden, positions))

    def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
        kind = kinds[i]
        return first(
            layer(states, attention_mask=sights[kind], position_embeddings=rotations[kind])
        )

    return step


def classify_pooler(model: Any, body: Any, state: State) -> torch.Tensor:
    """BERT: the pooler belongs to the body."""
    logits: torch.Tensor = model.classifier(model.dropout(body.pooler(_opening(state))))
    return logits


def classify_context(model: Any, body: Any, state: State) -> torch.Tensor:
    """DeBERTa: the pooler belongs to the classifier."""
    logits: torch.Tensor = model.classifier(model.dropout(model.pooler(_opening(state))))
    return logits


def classify_whole(model: Any, body: Any, state: State) -> torch.Tensor:
    """RoBERTa, MPNet, ELECTRA: the classifier takes all hidden states, and looks at the first."""
    logits: torch.Tensor = model.classifier(_opening(state))
    return logits


def classify_distilbert(model: Any, body: Any, state: State) -> torch.Tensor:
    """DistilBERT: a hidden layer over the first token."""
    pooled = torch.relu(model.pre_classifier(state.layout.at(state.hidden)))
    logits: torch.Tensor = model.classifier(model.dropout(pooled))
    return logits


def classify_modernbert(model: Any, body: Any, state: State) -> torch.Tensor:
    """ModernBERT: final norm, then the first token or the mean, as the config says."""
    if model.config.classifier_pooling == "cls":
        pooled = body.final_norm(state.layout.at(state.hidden))
    else:
        pooled = state.layout.mean(body.final_norm(state.hidden))
    logits: torch.Tensor = model.classifier(model.drop(model.head(pooled)))
    return logits


def classify_last(model: Any, body: Any, state: State) -> torch.Tensor:
    """Decoders: final norm and score of the last token; norm and score act token by token."""
    logits: torch.Tensor = model.score(body.norm(state.layout.at(state.hidden, state.last)))
    return logits


def _opening(state: State) -> torch.Tensor:
    """The first token of each row as a sequence of its own, [b, 1, h]."""
    return state.layout.at(state.hidden).unsqueeze(1)


def first(output: Any) -> torch.Tensor:
    """The hidden states of a layer that may return a tuple."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
