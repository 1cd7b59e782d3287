"""A shallow, narrow model of the same family, for a tiny tier that has layers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from adaptive.errors import FamilyError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.projection import principal_directions
from adaptive.tiers.source import untrained_model
from adaptive.tiers.surgery import cut_config


def narrow_config(config: Any, *, layers: int, hidden: int, heads: int, intermediate: int) -> Any:
    """The config of a smaller model of the same family; the given one stays as it is.

    Raises:
        ValueError: more layers than the given config has, or heads that do not divide `hidden`.
    """
    if hidden % heads:
        raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
    if not 0 < layers <= config.num_hidden_layers:
        raise ValueError(f"{layers} layers, expected 1 to {config.num_hidden_layers}")
    small = copy.deepcopy(config)
    cut_config(small, range(layers))
    size = hidden // heads
    # a config has some of these; attribute maps cover DistilBERT's names but for hidden_dim
    for name, value in {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": intermediate,
        "hidden_dim": intermediate,
        "embedding_size": hidden,
        "pooler_hidden_size": hidden,
        "head_dim": size,
        "query_pre_attn_scalar": size,
    }.items():
        if getattr(small, name, None) is not None:
            setattr(small, name, value)
    return small


def narrow(
    backbone: Backbone, *, layers: int, hidden: int, heads: int, intermediate: int
) -> Backbone:
    """An untrained smaller model whose embeddings are the given model's, projected.

    Token, position and segment tables are all turned by the token table's leading
    directions, so that their sums are too. The rest is drawn from torch's global generator.

    Raises:
        ValueError: as `narrow_config`; or `hidden` is more than the given model's.
        FamilyError: the token table is narrower than the model (some ELECTRA).
    """
    table = backbone.embedding_table
    if table.shape[1] != backbone.hidden:
        raise FamilyError(
            f"a token table of width {table.shape[1]} in a model of width {backbone.hidden} "
            "cannot be projected"
        )
    directions = principal_directions(table, hidden)
    config = narrow_config(
        backbone.config, layers=layers, hidden=hidden, heads=heads, intermediate=intermediate
    )
    model = untrained_model(config, table.dtype).to(table.device)
    small = Backbone(model, fresh_head=True)
    wide = dict(backbone.body.named_modules())
    with torch.no_grad():
        for path, module in small.body.named_modules():
            if isinstance(module, nn.Embedding):
                source = wide[path].weight
                if source.shape[1] == len(directions):
                    module.weight.copy_(source @ directions)
    return small
