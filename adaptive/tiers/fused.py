"""Layers and embeddings of BERT's kind in few kernels, for inference in half precision on a GPU.

A layer is eight kernels in place of sixteen: queries, keys and values are one product, sums and
norms one kernel, and attention takes rows as short as they are. It computes what the modules of
transformers compute, on their own weights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from adaptive.device.captures import by_kernel
from adaptive.tiers import attention, calls
from adaptive.tiers.families import FAMILIES
from adaptive.tiers.state import Packed, Padded, Step
from adaptive.types import TokenBatch

if TYPE_CHECKING:
    from adaptive.tiers.backbone import Backbone

# Paths from a layer, beside those of its matrices: attention, a norm, activation, a norm.
_BERT = (
    "attention.self",
    "attention.output.LayerNorm",
    "intermediate.intermediate_act_fn",
    "output.LayerNorm",
)
_PATHS = dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT) | {
    "distilbert": ("attention", "sa_layer_norm", "ffn.activation", "output_layer_norm")
}
_joining = threading.Lock()


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of a layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attended: nn.Linear
    rising: nn.Linear
    falling: nn.Linear
    attention: Any  # knows the size of a head, and the scale of scores
    first_norm: nn.LayerNorm
    activation: Callable[[torch.Tensor], torch.Tensor]
    last_norm: nn.LayerNorm


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a layer needs beside products and its activation."""

    # queries, keys and values [t, 3 x heads x d], how rows lie, heads, scale: [t, heads x d]
    attend: Callable[[torch.Tensor, Packed, int, float], torch.Tensor]
    # norm of the sum of two [t, h]
    add_norm: Callable[[torch.Tensor, torch.Tensor, nn.LayerNorm], torch.Tensor]


def _attend(qkv: torch.Tensor, layout: Packed, heads: int, scale: float) -> torch.Tensor:
    """Rows that are one tile by our kernel, longer ones by torch's."""
    from adaptive.tiers.layer_kernels import LONGEST, WIDEST, row_attention

    size = qkv.shape[1] // (3 * heads)
    if layout.longest <= LONGEST and size <= WIDEST:
        return row_attention(qkv, layout.ends, layout.longest, heads, scale)
    assert attention.VARLEN is not None
    ends, longest = layout.ends, layout.longest
    parts = qkv.view(-1, 3, heads, size).unbind(1)
    found: torch.Tensor = attention.VARLEN(*parts, ends, ends, longest, longest, scale=scale)
    return found.flatten(1)


def _add_norm(x: torch.Tensor, residual: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    from adaptive.tiers.layer_kernels import add_layer_norm

    return add_layer_norm(x, residual, norm.weight, norm.bias, norm.eps)


ON_GPU = Kernels(_attend, _add_norm)


def fused_step(
    backbone: Backbone,
    hidden: torch.Tensor,
    layout: Packed | Padded,
    kernels: Kernels = ON_GPU,
) -> Step:
    """Runs one layer on rows that lie like this; where it is no plain one, its own modules do.

    Args:
        backbone: of a family that `has_fused` knows.
        hidden: states before a layer, [1, t, h].
    """
    assert isinstance(layout, Packed)
    family = backbone.family
    plain = family.prepare(backbone.body, hidden, layout)

    def step(i: int, layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
        parts = layer_of(family.name, layer)
        if parts is None:
            return plain(i, layer, states)
        return run_layer(parts, states[0].contiguous(), layout, kernels).unsqueeze(0)

    return step


def has_fused(backbone: Backbone, hidden: torch.Tensor) -> bool:
    """Whether layers on such states, or embeddings of such values, are run by these kernels."""
    return (
        backbone.family.name in _PATHS
        and attention.fused(hidden)
        and by_kernel(hidden)
        and not backbone.training
        and not backbone.prefix
    )


def run_layer(layer: Layer, states: torch.Tensor, layout: Packed, kernels: Kernels) -> torch.Tensor:
    """States [t, h] behind a layer."""
    weight, bias = joined((layer.query, layer.key, layer.value))
    heads = layer.query.out_features // layer.attention.attention_head_size
    qkv = functional.linear(states, weight, bias)
    mixed = kernels.attend(qkv, layout, heads, layer.attention.scaling)
    mixed = functional.linear(mixed, layer.attended.weight, layer.attended.bias)
    states = kernels.add_norm(mixed, states, layer.first_norm)
    risen = functional.linear(states, layer.rising.weight, layer.rising.bias)
    risen = layer.activation(risen)
    fallen = functional.linear(risen, layer.falling.weight, layer.falling.bias)
    return kernels.add_norm(fallen, states, layer.last_norm)


def layer_of(family: str, layer: nn.Module) -> Layer | None:
    """The modules of a layer; None where a matrix is no plain one, but has adapters for one."""
    parts = _finder(family)(layer)
    if any(type(part) is not nn.Linear or part.bias is None for part in parts[:6]):
        return None
    return Layer(*parts)


def joined(linears: Sequence[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the one layer that does what several layers of the same inputs do.

    Theirs become parts of it, so that nothing is held twice. Moved or cast they come apart, and
    are joined again.
    """
    return _whole([part.weight for part in linears]), _whole([part.bias for part in linears])


def _whole(parts: list[torch.Tensor]) -> torch.Tensor:
    if not _adjoin(parts):
        with _joining:
            if not _adjoin(parts):
                _join(parts)
    rows = sum(len(part) for part in parts)
    return parts[0].detach().as_strided((rows, *parts[0].shape[1:]), parts[0].stride())


def _adjoin(parts: list[torch.Tensor]) -> bool:
    """Whether tensors lie one behind the other in the same memory."""
    place, memory = parts[0].data_ptr(), parts[0].untyped_storage().data_ptr()
    for part in parts:
        if part.data_ptr() != place or part.untyped_storage().data_ptr() != memory:
            return False
        if not part.is_contiguous():
            return False
        place += part.nbytes
    return True


def _join(parts: list[torch.Tensor]) -> None:
    """Makes them lie so. They stay what they are for those who hold them."""
    # what was made outside of inference mode may be trained later on
    with torch.inference_mode(parts[0].is_inference()), torch.no_grad():
        whole = torch.cat(parts)
        if whole.is_cuda:  # other streams read it without asking
            torch.cuda.current_stream(whole.device).synchronize()
        for part, place in zip(
            parts, torch.split(whole, [len(part) for part in parts]), strict=True
        ):
            part.data = place


@cache
def _finder(family: str) -> Callable[[nn.Module], tuple[Any, ...]]:
    plan = FAMILIES[family].pruning
    matrices = (*plan.queries, *plan.keys, plan.attended, *plan.rising, plan.falling)
    return attrgetter(*matrices, *_PATHS[family])


def fused_embed(
    backbone: Backbone, batch: TokenBatch, layout: Packed | Padded
) -> torch.Tensor | None:
    """What `calls.embed_encoder` gives, [1, t, h], by one kernel; None where that cannot be."""
    if backbone.family.embed is not calls.embed_encoder or not isinstance(layout, Packed):
        return None
    parts = backbone.body.embeddings
    words, places = parts.word_embeddings, parts.position_embeddings.weight
    if type(words) is not nn.Embedding or not has_fused(backbone, words.weight):
        return None
    if layout.longest > len(places):
        return None
    from adaptive.tiers.layer_kernels import embed_rows

    kinds = getattr(parts, "token_type_embeddings", None)
    typed = kinds is not None and len(kinds.weight) > 1
    norm = parts.LayerNorm
    hidden = embed_rows(
        batch.ids,
        batch.types if typed else None,
        layout.ends,
        layout.longest,
        (words.weight, places, None if kinds is None else kinds.weight),
        (norm.weight, norm.bias, norm.eps),
    ).unsqueeze(0)
    if hasattr(backbone.body, "embeddings_project"):  # as in `calls`
        hidden = backbone.body.embeddings_project(hidden)
    return hidden
