"""The transformer families that can be tiers, one entry each.

A new family is a new entry, if its layers are called in one of the ways `calls` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from adaptive.errors import FamilyError
from adaptive.tiers import calls
from adaptive.tiers.state import State, Step
from adaptive.types import TokenBatch


@dataclass(frozen=True, slots=True)
class Pruning:
    """Where a layer's prunable matrices are, as paths from the layer.

    Heads are counted in key-value groups where queries share them. Fused matrices hold
    `blocks` equal parts (query, key, value; or gate and up), cut alike.
    """

    queries: tuple[str, ...]  # linears with one block of rows per query head
    keys: tuple[str, ...]  # linears with one block of rows per key-value group
    attended: str  # linear with one block of columns per query head
    attention: str  # module that holds the head size
    rising: tuple[str, ...]  # linears with one row per feed-forward neuron
    falling: str  # linear with one column per feed-forward neuron
    attention_blocks: int = 1
    rising_blocks: int = 1
    heads: bool = True  # heads can be cut; layers and neurons always can


@dataclass(frozen=True, slots=True)
class Family:
    """What the adapter must know about one model type."""

    name: str  # `model_type` of the config
    layers: str  # path of the layer list from the body
    embed: Callable[[Any, TokenBatch, Any], torch.Tensor]
    prepare: Callable[[Any, torch.Tensor, Any], Step]
    classify: Callable[[Any, Any, State], torch.Tensor]
    head: tuple[str, ...]  # paths from the model of what only `classify` runs
    pruning: Pruning
    packed: bool = True  # attention goes through transformers' interface
    causal: bool = False
    # positions start behind the padding id: that many rows of the table are never reached
    shifted: bool = False
    first_layer_differs: bool = False  # layer 0 is built unlike the others

    @property
    def adapted(self) -> tuple[str, ...]:
        """Linears that low-rank adapters go into by default: queries and values.

        Those two, as Hu et al. 2021 (arXiv:2106.09685, section 7.1) found best at one budget;
        where one matrix holds queries, keys and values, that one.
        """
        return (self.pruning.queries[0], *self.pruning.keys[-1:])


_BERT_PRUNING = Pruning(
    queries=("attention.self.query",),
    keys=("attention.self.key", "attention.self.value"),
    attended="attention.output.dense",
    attention="attention.self",
    rising=("intermediate.dense",),
    falling="output.dense",
)
_DECODER_PRUNING = Pruning(
    queries=("self_attn.q_proj",),
    keys=("self_attn.k_proj", "self_attn.v_proj"),
    attended="self_attn.o_proj",
    attention="self_attn",
    rising=("mlp.gate_proj", "mlp.up_proj"),
    falling="mlp.down_proj",
)
_BERT = Family(
    name="bert",
    layers="encoder.layer",
    embed=calls.embed_encoder,
    prepare=calls.prepare_encoder,
    classify=calls.classify_pooler,
    head=("bert.pooler", "classifier"),
    pruning=_BERT_PRUNING,
)
_ROBERTA = replace(
    _BERT,
    name="roberta",
    embed=calls.embed_shifted,
    classify=calls.classify_whole,
    head=("classifier",),
    shifted=True,
)
_LLAMA = Family(
    name="llama",
    layers="layers",
    embed=calls.embed_decoder,
    prepare=calls.prepare_decoder,
    classify=calls.classify_last,
    head=("score",),
    pruning=_DECODER_PRUNING,
    causal=True,
)

_TABLE = (
    _BERT,
    _ROBERTA,
    replace(_ROBERTA, name="xlm-roberta"),
    replace(_ROBERTA, name="camembert"),
    replace(_ROBERTA, name="electra", embed=calls.embed_encoder, shifted=False),
    Family(
        name="distilbert",
        layers="transformer.layer",
        embed=calls.embed_encoder,
        prepare=calls.prepare_encoder,
        classify=calls.classify_distilbert,
        head=("pre_classifier", "classifier"),
        pruning=Pruning(
            queries=("attention.q_lin",),
            keys=("attention.k_lin", "attention.v_lin"),
            attended="attention.out_lin",
            attention="attention",
            rising=("ffn.lin1",),
            falling="ffn.lin2",
        ),
    ),
    Family(
        name="mpnet",
        layers="encoder.layer",
        embed=calls.embed_padded,
        prepare=calls.prepare_relative,
        classify=calls.classify_whole,
        head=("classifier",),
        pruning=replace(
            _BERT_PRUNING,
            queries=("attention.attn.q",),
            keys=("attention.attn.k", "attention.attn.v"),
            attended="attention.attn.o",
            attention="attention.attn",
            heads=False,  # all layers share one position bias with a column per head
        ),
        packed=False,
        shifted=True,
    ),
    Family(
        name="modernbert",
        layers="layers",
        embed=calls.embed_rotary,
        prepare=calls.prepare_rotary_encoder,
        classify=calls.classify_modernbert,
        head=("head", "classifier"),
        pruning=Pruning(
            queries=("attn.Wqkv",),
            keys=(),
            attended="attn.Wo",
            attention="attn",
            rising=("mlp.Wi",),
            falling="mlp.Wo",
            attention_blocks=3,
            rising_blocks=2,
        ),
        first_layer_differs=True,
    ),
    Family(
        name="deberta-v2",
        layers="encoder.layer",
        embed=calls.embed_masked,
        prepare=calls.prepare_disentangled,
        classify=calls.classify_context,
        head=("pooler", "classifier"),
        pruning=replace(
            _BERT_PRUNING,
            queries=(
                "attention.self.query_proj",
                "attention.self.pos_query_proj",
                "attention.self.pos_key_proj",
            ),
            keys=("attention.self.key_proj", "attention.self.value_proj"),
        ),
        packed=False,
        first_layer_differs=True,
    ),
    _LLAMA,
    replace(_LLAMA, name="qwen2"),
    replace(_LLAMA, name="qwen3"),
    replace(_LLAMA, name="gemma3_text"),
)
FAMILIES = {family.name: family for family in _TABLE}


def family_of(config: Any) -> Family:
    """The entry of a model's config.

    Raises:
        FamilyError: no entry, or the config asks for attention that the entry does not know.
    """
    name = config.model_type
    if name not in FAMILIES:
        raise FamilyError(
            f"no adapter for models of type {name!r}; supported are {', '.join(FAMILIES)}"
        )
    if getattr(config, "is_decoder", False) and not FAMILIES[name].causal:
        raise FamilyError(f"a {name} model with is_decoder=True is not supported; set it to false")
    if getattr(config, "use_bidirectional_attention", False):
        raise FamilyError(f"a {name} model with use_bidirectional_attention is not supported")
    return FAMILIES[name]


def positions_of(config: Any) -> int:
    """Most tokens of a text that a model's positions allow."""
    limit = int(config.max_position_embeddings)
    if not FAMILIES[config.model_type].shifted:
        return limit
    # MPNet's embeddings have a padding id of their own, whatever the config says
    pad = 1 if config.model_type == "mpnet" else int(config.pad_token_id)
    return limit - 1 - pad
