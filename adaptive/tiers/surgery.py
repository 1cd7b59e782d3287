"""Smaller models cut out of a trained one: fewer layers, attention heads, neurons.

The matrices really shrink; what is kept computes what it did. Each layer may keep another
number of heads and neurons, which no transformers config can say, so the config of a cut
model keeps the counts it was born with, and `sizes_of` tells the counts of each layer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adaptive.errors import FamilyError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.families import Family, Pruning
from adaptive.tiers.prefixes import CHILD, Prefix, check_prefix, prefix_of


@dataclass(frozen=True, slots=True)
class Shape:
    """What to keep of a model, as indices into it, ascending."""

    layers: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]  # of each kept layer; key-value groups where shared
    widths: tuple[tuple[int, ...], ...]  # feed-forward neurons of each kept layer


@dataclass(frozen=True, slots=True)
class Sizes:
    """Heads (or key-value groups) and feed-forward neurons of each layer."""

    heads: tuple[int, ...]
    widths: tuple[int, ...]


def sizes_of(backbone: Backbone) -> Sizes:
    """The counts of a model, cut or whole."""
    plan = backbone.family.pruning
    return Sizes(
        tuple(_count_heads(layer, plan) for layer in backbone.blocks),
        tuple(_linear(layer, plan.falling).in_features for layer in backbone.blocks),
    )


def whole(backbone: Backbone) -> Shape:
    """The shape that keeps everything."""
    return shape_of(sizes_of(backbone))


def shape_of(sizes: Sizes) -> Shape:
    """The first heads and neurons of every layer, as many as the sizes say."""
    return Shape(
        tuple(range(len(sizes.heads))),
        tuple(tuple(range(count)) for count in sizes.heads),
        tuple(tuple(range(count)) for count in sizes.widths),
    )


def shrink(backbone: Backbone, shape: Shape) -> Backbone:
    """A new, smaller model; the given one stays as it is.

    Its logits are those of the given model without the other layers, and with the outputs of
    the other heads and neurons set to zero.

    Raises:
        ValueError: indices out of range, repeated, not ascending or none at all.
        FamilyError: heads to be cut in a family where they cannot be.
    """
    _check(shape, sizes_of(backbone), backbone.family)
    small = Backbone(copy.deepcopy(backbone.model), fresh_head=backbone.fresh_head)
    _keep_layers(small, shape.layers)
    for layer, heads, widths in zip(small.blocks, shape.heads, shape.widths, strict=True):
        _keep_heads(layer, small.family.pruning, heads)
        _keep_widths(layer, small.family.pruning, widths)
    return small


def reshape(backbone: Backbone, sizes: Sizes) -> Backbone:
    """An untrained model of the given sizes, to load weights into.

    Raises:
        ValueError: sizes that the model cannot have.
        FamilyError: as `shrink`.
    """
    return shrink(backbone, shape_of(sizes))


def add_prefix(backbone: Backbone, tokens: int) -> list[Prefix]:
    """An untrained prefix in every layer of a model, cut or whole; returns them.

    Raises:
        FamilyError: the family's attention takes none.
    """
    family = backbone.family
    check_prefix(family.name, family.packed)
    table, found = backbone.embedding_table, []
    for layer in backbone.blocks:
        attention = layer.get_submodule(family.pruning.attention)
        heads, size = _count_heads(layer, family.pruning), _head_size(attention)
        prefix = Prefix(heads, tokens, size).to(table.device, table.dtype)
        attention.add_module(CHILD, prefix)
        found.append(prefix)
    return found


def _check(shape: Shape, sizes: Sizes, family: Family) -> None:
    if not len(shape.layers) == len(shape.heads) == len(shape.widths):
        raise ValueError(
            f"a shape of {len(shape.layers)} layers with heads for {len(shape.heads)} "
            f"and widths for {len(shape.widths)}"
        )
    _check_indices(shape.layers, len(sizes.heads), "layers")
    if family.first_layer_differs and shape.layers[0] != 0:
        raise ValueError(f"layer 0 of a {family.name} model must be kept: it is unlike others")
    for layer, heads, widths in zip(shape.layers, shape.heads, shape.widths, strict=True):
        _check_indices(heads, sizes.heads[layer], f"heads of layer {layer}")
        _check_indices(widths, sizes.widths[layer], f"neurons of layer {layer}")
        if not family.pruning.heads and len(heads) < sizes.heads[layer]:
            raise FamilyError(
                f"heads of a {family.name} model cannot be cut, only layers and neurons: "
                f"keep all {sizes.heads[layer]}"
            )


def _check_indices(indices: Sequence[int], count: int, what: str) -> None:
    good = bool(indices) and list(indices) == sorted(set(indices))
    if not good or indices[0] < 0 or indices[-1] >= count:
        raise ValueError(
            f"{what}: {len(indices)} indices, expected 1 to {count} ascending ones below {count}"
        )


def _keep_layers(backbone: Backbone, layers: tuple[int, ...]) -> None:
    path, _, name = backbone.family.layers.rpartition(".")
    kept = nn.ModuleList(backbone.blocks[i] for i in layers)
    setattr(backbone.body.get_submodule(path), name, kept)
    for i, layer in enumerate(kept):  # decoders find their key-value cache by this number
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = i  # type: ignore[assignment]
    # the body and the model around it may each have a config of their own
    for config in {id(c): c for c in (backbone.model.config, backbone.body.config)}.values():
        cut_config(config, layers)


def cut_config(config: Any, layers: Sequence[int]) -> None:
    """Makes a config speak of the kept layers only."""
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(layers)
    if kinds is not None:
        config.layer_types = [kinds[i] for i in layers]


def _keep_heads(layer: nn.Module, plan: Pruning, heads: tuple[int, ...]) -> None:
    count = _count_heads(layer, plan)
    if len(heads) == count:
        return
    for path in (*plan.queries, *plan.keys):
        if _has(layer, path):
            _cut(layer, path, heads, count, blocks=plan.attention_blocks, rows=True)
    _cut(layer, plan.attended, heads, count, blocks=1, rows=False)
    attention = layer.get_submodule(plan.attention)
    prefix = prefix_of(attention)
    if prefix is not None:
        prefix.cut(list(heads))
    # some families read these counts when they run
    for name in ("num_attention_heads", "n_heads", "all_head_size"):
        if hasattr(attention, name):
            setattr(attention, name, getattr(attention, name) * len(heads) // count)


def _keep_widths(layer: nn.Module, plan: Pruning, widths: tuple[int, ...]) -> None:
    count = _linear(layer, plan.falling).in_features
    if len(widths) == count:
        return
    for path in plan.rising:
        _cut(layer, path, widths, count, blocks=plan.rising_blocks, rows=True)
    _cut(layer, plan.falling, widths, count, blocks=1, rows=False)


def _cut(
    layer: nn.Module,
    path: str,
    kept: tuple[int, ...],
    count: int,
    *,
    blocks: int,
    rows: bool,
) -> None:
    """Replaces a linear by one with the kept units of `count`, in each of its equal blocks."""
    old = _linear(layer, path)
    total = old.out_features if rows else old.in_features
    units = torch.arange(total, device=old.weight.device).view(blocks, count, -1)
    index = units[:, list(kept)].flatten()
    weight = old.weight.detach().index_select(0 if rows else 1, index)
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=old.bias is not None, device="meta")
    new.weight = nn.Parameter(weight, requires_grad=old.weight.requires_grad)
    if old.bias is not None:
        bias = old.bias.detach()
        bias = bias.index_select(0, index) if rows else bias.clone()
        new.bias = nn.Parameter(bias, requires_grad=old.bias.requires_grad)
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, new)


def _count_heads(layer: nn.Module, plan: Pruning) -> int:
    attention = layer.get_submodule(plan.attention)
    size = _head_size(attention)
    queries = _linear(layer, plan.queries[0]).out_features // plan.attention_blocks
    groups = getattr(attention, "num_key_value_groups", 1)  # query heads per key-value head
    assert isinstance(groups, int)
    return queries // (size * groups)


def _head_size(attention: nn.Module) -> int:
    size = getattr(attention, "attention_head_size", None) or attention.head_dim
    assert isinstance(size, int)
    return size


def _linear(layer: nn.Module, path: str) -> nn.Linear:
    module = layer.get_submodule(path)
    assert isinstance(module, nn.Linear)
    return module


def _has(layer: nn.Module, path: str) -> bool:
    """DeBERTa may share its position projections with its content ones."""
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True
