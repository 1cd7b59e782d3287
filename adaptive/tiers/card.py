"""tier.json: what is needed beside the weights to make a tier."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from adaptive.errors import BundleError

CARD = "tier.json"
DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Card:
    """tier.json: what is needed beside the weights to make a tier."""

    kind: str  # of `kinds.KINDS`
    name: str
    labels: list[str]
    depths: list[int]
    own_head: bool
    head_width: int | None
    dtype: str  # that it is served in; the weights beside may have another
    hidden: int
    sha256: str  # of model.safetensors
    heads: list[int] = field(default_factory=list)  # attention heads of each layer
    widths: list[int] = field(default_factory=list)  # feed-forward neurons of each layer
    vocabulary: int = 0  # of a bag
    buckets: int = 0  # of a bag
    half_pairs: bool = False  # a bag's table of pairs is kept in float16
    int8: bool = False  # the layers are served in int8; the weights beside are not
    graphs: bool = False  # the layers are run by ONNX Runtime, from the graphs beside
    prefix: int = 0  # tokens of a prefix in each layer
    last_linear: bool = False  # the last head has no hidden layer, though `head_width` is given


def read_card(folder: Path) -> Card:
    """A folder's card, checked as far as it goes by itself; BundleError where it is none."""
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
        card = Card(**values)
    except FileNotFoundError:
        raise BundleError(f"{CARD} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{CARD} is not a tier's card: {error}") from error
    fault = _card_fault(card)
    if fault:
        raise BundleError(f"{CARD}: {fault}")
    return card


def _card_fault(card: Card) -> str | None:
    plain: dict[str, type] = {"name": str}
    plain |= dict.fromkeys(("own_head", "int8", "graphs", "last_linear", "half_pairs"), bool)
    plain |= dict.fromkeys(("vocabulary", "hidden", "buckets", "prefix"), int)
    for name, kind in plain.items():
        if type(getattr(card, name)) is not kind:
            return f"{name} must be of type {kind.__name__}"
    for name in ("labels", "depths", "heads", "widths"):
        kind = str if name == "labels" else int
        values = getattr(card, name)
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            return f"{name} must be a list of {kind.__name__}"
    sizes = (card.vocabulary, card.hidden, card.buckets, card.prefix)
    if not all(0 <= size < 2**31 for size in sizes):
        return "sizes must be from 0 to 2147483647"
    if card.dtype not in DTYPES:
        return f"unknown dtype {card.dtype!r}"
    return None
