"""A tiny random classifier of every supported family."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification

from adaptive.tiers.backbone import Backbone
from adaptive.types import TokenBatch

VOCABULARY = 60


def _sizes(**others: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "pad_token_id": 1,
    } | others


_SPECIAL = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
_DECODER = _sizes(num_key_value_heads=2, **_SPECIAL)
# Windows of 4 tokens, so that even short texts reach beyond them.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _sizes(pad_token_id=0),
    "roberta": _sizes(type_vocab_size=1),
    "xlm-roberta": _sizes(type_vocab_size=1),
    "camembert": _sizes(type_vocab_size=1),
    "distilbert": {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48, "pad_token_id": 0},
    "mpnet": _sizes(),
    "electra": _sizes(pad_token_id=0, embedding_size=16),
    "modernbert": _sizes(local_attention=4, global_attn_every_n_layers=3, **_SPECIAL),
    "deberta-v2": _sizes(
        pad_token_id=0,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        conv_kernel_size=3,
    ),
    "llama": _DECODER,
    "qwen2": _DECODER | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen3": _DECODER | {"head_dim": 16},
    "gemma3_text": _DECODER
    | {
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
}
DROPOUTS = dict.fromkeys(
    (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "attention_dropout",
        "embedding_dropout",
        "mlp_dropout",
        "classifier_dropout",
        "dropout",
        "seq_classif_dropout",
        "pooler_dropout",
    ),
    0.3,
)


def tiny_config(name: str, classes: int = 3, **others: Any) -> Any:
    """The config of a tiny model of a family."""
    values = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "num_labels": classes}
    return AutoConfig.for_model(name, **values | CONFIGS[name] | others)


def tiny_backbone(name: str, classes: int = 3, **others: Any) -> Backbone:
    """A tiny model whose weights are far enough from zero for every part to matter."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(name, classes, **others))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return Backbone(model).eval()


def tiny_rows(lengths: tuple[int, ...] = (12, 5, 1, 9)) -> list[torch.Tensor]:
    """Token ids of texts of the given lengths, none of them a special token."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]


def packed(rows: list[torch.Tensor], types: torch.Tensor | None = None) -> TokenBatch:
    """The rows in one batch."""
    return TokenBatch(torch.cat(rows), np.array([len(row) for row in rows]), types)


def own_logits(backbone: Backbone, batch: TokenBatch) -> torch.Tensor:
    """What the model's own forward gives."""
    return model_logits(backbone.model, batch)


def model_logits(model: Any, batch: TokenBatch) -> torch.Tensor:
    """What a transformers model gives for the rows padded to the longest."""
    lengths = batch.lengths.tolist()
    pad = model.config.pad_token_id
    extra = {}
    if batch.types is not None:
        extra["token_type_ids"] = pad_sequence(batch.types.split(lengths), batch_first=True)
    logits: torch.Tensor = model(
        input_ids=pad_sequence(batch.ids.split(lengths), batch_first=True, padding_value=pad),
        attention_mask=pad_sequence(
            [torch.ones(length).long() for length in lengths], batch_first=True
        ),
        **extra,
    ).logits
    return logits


def segment_logits(backbone: Backbone, batch: TokenBatch, cuts: tuple[int, ...]) -> torch.Tensor:
    """The same by segments that end at the given depths."""
    state = backbone.embed(batch)
    start = 0
    for stop in (*cuts, backbone.layers):
        state = backbone.run(state, start, stop)
        start = stop
    return backbone.classify(state)
