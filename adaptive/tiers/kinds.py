"""Kinds of backbones: what a tier's folder holds of each, and how one is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.initialization import no_init_weights

from adaptive.errors import BundleError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.card import CARD, Card
from adaptive.tiers.source import quiet_transformers, read_config, untrained_model
from adaptive.tiers.surgery import Sizes, add_prefix, reshape, sizes_of
from adaptive.tiers.tier import Tier

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; functions of a backbone are given one of this kind."""

    sizes: Callable[[Any], dict[str, Any]]  # the fields of its card that are its own
    # of a folder, its card and a dtype: with weights that are not yet set
    empty: Callable[[Path, Card, torch.dtype], Backbone | Bag]


def kind_of(card: Card) -> Kind:
    """The entry of a card's kind; BundleError where there is none."""
    if card.kind not in KINDS:
        raise BundleError(f"{CARD}: unknown kind {card.kind!r}, expected {' or '.join(KINDS)}")
    return KINDS[card.kind]


def backbone_of(tier: Tier) -> Backbone:
    """The tier's transformer.

    Raises:
        ValueError: it has none.
    """
    backbone = tier.backbone
    if not isinstance(backbone, Backbone):
        raise ValueError(f"tier {tier.name!r} is a {backbone.kind}, which has no layers")
    return backbone


def save_config(config: Any, backbone: Backbone | Bag, labels: Sequence[str], folder: Path) -> None:
    """Write the transformers config of a backbone that has one."""
    values = config.to_dict() | {
        "architectures": [type(backbone.stored).__name__],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "dtype": str(backbone.embedding_table.dtype).removeprefix("torch."),
    }
    # where the model came from is a path of the machine that built it
    values.pop("_name_or_path", None)
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _transformer_sizes(backbone: Backbone) -> dict[str, Any]:
    sizes = sizes_of(backbone)
    return {"heads": list(sizes.heads), "widths": list(sizes.widths)}


def _empty_transformer(folder: Path, card: Card, dtype: torch.dtype) -> Backbone:
    with quiet_transformers(), no_init_weights():
        model = untrained_model(read_config(folder), dtype)
    backbone = reshape(Backbone(model), Sizes(tuple(card.heads), tuple(card.widths)))
    if card.prefix:
        add_prefix(backbone, card.prefix)
    return backbone


def _bag_sizes(bag: Bag) -> dict[str, Any]:
    return {
        "vocabulary": len(bag.embedding_table),
        "buckets": bag.buckets,
        "half_pairs": bag.pairs is not None and bag.pairs.dtype == torch.float16,
    }


def _empty_bag(folder: Path, card: Card, dtype: torch.dtype) -> Bag:
    bag = Bag(card.vocabulary, card.hidden, card.buckets).to(dtype)
    if card.half_pairs and dtype.itemsize > torch.float16.itemsize:
        bag.halve_pairs()
    return bag


KINDS = {
    Backbone.kind: Kind(_transformer_sizes, _empty_transformer),
    Bag.kind: Kind(_bag_sizes, _empty_bag),
}
