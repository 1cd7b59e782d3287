"""A backbone's layers as CUDA graphs, where launching them takes longer than computing them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from adaptive.captures import Captures, Tensors, size_of, wanted
from adaptive.tiers import attention
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.calls import prepare_encoder
from adaptive.tiers.state import Packed, State
from adaptive.transfer import put

# Multiply-adds of a layer beyond which it is not captured. Launching one takes the host about
# 0.1 ms, in which an H100 does 2e10 of them in half precision at four tenths of its peak:
# 2,400 tokens of BERT-base. Reckoned, not measured.
MOST_WORK = 2e10
NARROWEST = 128  # tokens of a row that one block of an attention kernel takes anyway


@dataclass(frozen=True, eq=False)
class Told(Packed):
    """A layout that is told where rows start, on the device, and how long they may be."""

    told_ends: torch.Tensor  # [b + 1] int32
    told_longest: int

    @property
    def ends(self) -> torch.Tensor:
        """Where rows start, and where the last one ends."""
        return self.told_ends

    @property
    def longest(self) -> int:
        """No row has more tokens."""
        return self.told_longest


def most_tokens(backbone: Backbone | Bag) -> int:
    """How many tokens are run by graphs at most: none where layers take more than their rows."""
    if isinstance(backbone, Bag) or backbone.family.prepare is not prepare_encoder:
        return 0
    return int(MOST_WORK / max(backbone.layer_work(layer) for layer in range(backbone.layers)))


def can_capture(hidden: torch.Tensor) -> bool:
    """Whether layers are captured where such states [1, t, h] lie.

    Attention has to be a kernel that is told where rows start.
    """
    return wanted(hidden.device) and attention.fused(hidden)


def run_layers(
    captures: Captures, backbone: Backbone, state: State, start: int, stop: int
) -> State:
    """`Backbone.run` by a graph of tokens, rows and greatest length filled up to a few sizes."""
    lengths = state.layout.lengths
    longest = max(NARROWEST, 1 << (int(lengths.max()) - 1).bit_length())
    tokens = size_of(int(lengths.sum()))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # tokens too many are rows of their own, lest attention leave them undefined
    starts = np.concatenate([starts, np.arange(starts[-1] + longest, tokens, longest)])
    ends = np.full(size_of(len(starts)) + 1, tokens, np.int32)
    ends[: len(starts)] = starts

    def plain() -> Tensors:
        return (backbone.run(state, start, stop).hidden.squeeze(0),)

    def run(hidden: torch.Tensor, ends: torch.Tensor) -> Tensors:
        layout = Told(np.empty(0, np.int64), hidden.device, ends, longest)
        found = backbone.run(State(hidden.unsqueeze(0), layout), start, stop)
        return (found.hidden.squeeze(0),)

    inputs = (state.hidden.squeeze(0), put(ends, state.hidden.device))
    (hidden,) = captures((start, stop, longest), plain, run, inputs, (tokens, len(ends)))
    return replace(state, hidden=hidden.unsqueeze(0))
