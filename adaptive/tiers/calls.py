"""How each family's own modules are called, one layer at a time.

Three kinds of functions, which the table in `families` combines:

- embed: token ids to hidden states, before any layer;
- prepare: masks and position information for a run of layers, made from the hidden states
  and the padding mask alone, given back as a function that runs one layer;
- classify: the model's own final norm, pooling and classifier.

They follow each family's `forward` in transformers and copy none of its modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import masking_utils

from adaptive.types import TokenBatch

# Runs layer number i of the model on hidden states [b, w, h].
Step = Callable[[int, nn.Module, torch.Tensor], torch.Tensor]


def embed_encoder(body: Any, batch: TokenBatch) -> torch.Tensor:
    """Embeddings with positions, and segment ids where the model has any: [b, w, h]."""
    segments = getattr(body.config, "type_vocab_size", 0) > 1
    extra = {"token_type_ids": batch.types} if segments else {}
    hidden: torch.Tensor = body.embeddings(input_ids=batch.ids, **extra)
    if hasattr(body, "embeddings_project"):  # ELECTRA with a narrow embedding table
        hidden = body.embeddings_project(hidden)
    return hidden


def embed_masked(body: Any, batch: TokenBatch) -> torch.Tensor:
    """DeBERTa's embeddings, zero at padding: its convolution looks at neighbours."""
    hidden: torch.Tensor = body.embeddings(
        input_ids=batch.ids, token_type_ids=batch.types, mask=batch.mask
    )
    return hidden


def embed_decoder(body: Any, batch: TokenBatch) -> torch.Tensor:
    """The bare token table; decoders bring positions into their attention."""
    hidden: torch.Tensor = body.embed_tokens(batch.ids)
    return hidden


def prepare_encoder(body: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Step:
    """Layers that take nothing but the padding mask."""
    attention = _both_ways(body.config, hidden, mask)
    return lambda i, layer, states: _first(layer(states, attention))


def prepare_relative(body: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Step:
    """MPNet: one relative position bias, shared by the layers."""
    attention = _both_ways(body.config, hidden, mask)
    bias = body.encoder.compute_position_bias(hidden)
    return lambda i, layer, states: _first(layer(states, attention, bias))


def prepare_disentangled(body: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Step:
    """DeBERTa: relative positions and their embeddings; a convolution beside layer 0."""
    encoder = body.encoder
    padding = mask.long()
    attention = encoder.get_attention_mask(padding)
    positions = encoder.get_rel_pos(hidden)
    table = encoder.get_rel_embedding()

    def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
        out = _first(layer(states, attention, relative_pos=positions, rel_embeddings=table))
        if i == 0 and encoder.conv is not None:
            out = encoder.conv(states, out, padding)
        return out

    return step


def prepare_rotary_encoder(body: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Step:
    """ModernBERT: global and local layers, each kind with its own mask and rotation."""
    makers = {
        "full_attention": masking_utils.create_bidirectional_mask,
        "sliding_attention": masking_utils.create_bidirectional_sliding_window_mask,
    }
    kinds = body.config.layer_types
    masks = {
        kind: makers[kind](config=body.config, inputs_embeds=hidden, attention_mask=mask)
        for kind in set(kinds)
    }
    return _rotary_step(body, hidden, kinds, masks)


def prepare_decoder(body: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Step:
    """Causal layers with rotary positions; some may see a sliding window only."""
    makers = {
        "full_attention": masking_utils.create_causal_mask,
        "sliding_attention": masking_utils.create_sliding_window_causal_mask,
    }
    config = body.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(body.layers)
    masks = {
        kind: makers[kind](
            config=config, inputs_embeds=hidden, attention_mask=mask, past_key_values=None
        )
        for kind in set(kinds)
    }
    return _rotary_step(body, hidden, kinds, masks)


def _rotary_step(body: Any, hidden: torch.Tensor, kinds: Any, masks: dict[str, Any]) -> Step:
    """Each layer with the mask and the rotation of its kind."""
    rotations = _rotations(body, hidden, kinds)

    def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
        kind = kinds[i]
        return _first(
            layer(states, attention_mask=masks[kind], position_embeddings=rotations[kind])
        )

    return step


def classify_pooler(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """BERT: the pooler belongs to the body."""
    logits: torch.Tensor = model.classifier(model.dropout(body.pooler(hidden)))
    return logits


def classify_context(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """DeBERTa: the pooler belongs to the classifier."""
    logits: torch.Tensor = model.classifier(model.dropout(model.pooler(hidden)))
    return logits


def classify_whole(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """RoBERTa, MPNet, ELECTRA: the classifier takes all hidden states."""
    logits: torch.Tensor = model.classifier(hidden)
    return logits


def classify_distilbert(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """DistilBERT: a hidden layer over the first token."""
    pooled = torch.relu(model.pre_classifier(hidden[:, 0]))
    logits: torch.Tensor = model.classifier(model.dropout(pooled))
    return logits


def classify_modernbert(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """ModernBERT: final norm, then the first token or the mean, as the config says."""
    hidden = body.final_norm(hidden)
    if model.config.classifier_pooling == "cls":
        pooled = hidden[:, 0]
    else:
        pooled = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    logits: torch.Tensor = model.classifier(model.drop(model.head(pooled)))
    return logits


def classify_last(
    model: Any, body: Any, hidden: torch.Tensor, mask: torch.Tensor, last: torch.Tensor | None
) -> torch.Tensor:
    """Decoders: final norm and score of the last token; norm and score act token by token."""
    assert last is not None
    rows = torch.arange(len(hidden), device=hidden.device)
    logits: torch.Tensor = model.score(body.norm(hidden[rows, last]))
    return logits


def _both_ways(config: Any, hidden: torch.Tensor, mask: torch.Tensor) -> Any:
    return masking_utils.create_bidirectional_mask(
        config=config, inputs_embeds=hidden, attention_mask=mask
    )


def _rotations(body: Any, hidden: torch.Tensor, kinds: list[str]) -> dict[str, Any]:
    """Cosines and sines for each kind of layer; some families rotate each kind its own way."""
    positions = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
    if hasattr(body.rotary_emb, "layer_types"):
        return {kind: body.rotary_emb(hidden, positions, kind) for kind in set(kinds)}
    shared = body.rotary_emb(hidden, positions)
    return dict.fromkeys(kinds, shared)


def _first(output: Any) -> torch.Tensor:
    """The hidden states of a layer that may return a tuple."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
