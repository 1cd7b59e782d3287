"""Which calls of a backbone are captured as CUDA graphs, and how their rows are told to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.captures import Captures, Tensors, by_kernel, size_of, wanted
from adaptive.device.transfer import put
from adaptive.tiers import attention
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.state import Packed, State

# Multiply-adds of a layer beyond which it is not captured. Launching one took the host of an H200
# 0.17 ms, in which the GPU does 6e10 of them in half precision at seven tenths of its peak: 8,500
# tokens of BERT-base, 34,000 of MiniLM.
MOST_WORK = 6e10
NARROWEST = 16  # tokens of a row that one block of an attention kernel takes anyway


@dataclass(frozen=True, eq=False)
class Told(Packed):
    """A layout that is told on the device where its rows start; its numbers are not the host's."""

    told_ends: torch.Tensor  # [r + 1] int32
    tokens: int
    told_longest: int  # no row has more tokens

    @property
    def rows(self) -> int:
        """Rows, those that fill up among them."""
        return len(self.told_ends) - 1

    @cached_property
    def ends(self) -> torch.Tensor:
        """Where rows start, and where the last one ends."""
        return self.told_ends

    @cached_property
    def longest(self) -> int:
        """No row has more tokens."""
        return self.told_longest

    @cached_property
    def starts(self) -> torch.Tensor:
        """First token of each row, [r]."""
        return self.told_ends[:-1].long()

    @cached_property
    def counts(self) -> torch.Tensor:
        """Tokens of each row, [r]."""
        return self.told_ends.diff()

    @cached_property
    def owner(self) -> torch.Tensor:
        """Row of each token, [t]."""
        place = torch.arange(self.tokens, dtype=torch.int32, device=self.device)
        return torch.bucketize(place, self.told_ends[1:], right=True)

    @cached_property
    def positions(self) -> torch.Tensor:
        """Place of each token in its row, [t]."""
        return self._tokens - self.starts.index_select(0, self.owner)

    @cached_property
    def _tokens(self) -> torch.Tensor:
        return torch.arange(self.tokens, device=self.device)

    def mean(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mean over the tokens of each row, [r, h]; zeros where there are none."""
        if by_kernel(hidden):
            return super().mean(hidden)
        found: torch.Tensor = torch.embedding_bag(hidden[0], self._tokens, self.starts, False, 1)[0]
        return found


@dataclass(frozen=True, slots=True)
class Filled:
    """Rows of tokens, filled up to a few sizes."""

    ends: NDArray[np.int32]  # [r + 1]
    tokens: int
    longest: int

    @classmethod
    def of(cls, lengths: NDArray[np.int64]) -> Filled:
        """The sizes for rows of so many tokens each [b]."""
        longest = max(NARROWEST, 1 << (int(lengths.max()) - 1).bit_length())
        total = int(lengths.sum())
        tokens = size_of(total + 1)
        # Tokens too many are rows of their own: attention would leave them undefined. They stand
        # behind the rows too many, which are empty, so that all rows start at a token, and are
        # no longer than the longest real one, so that the model knows their positions.
        fillers = np.arange(total, tokens, max(1, int(lengths.max())))
        rows = size_of(len(lengths) + len(fillers))
        ends = np.full(rows + 1, total, np.int32)
        ends[0] = 0
        ends[1 : len(lengths) + 1] = lengths.cumsum()
        ends[rows - len(fillers) : rows] = fillers
        ends[rows] = tokens
        return cls(ends, tokens, longest)

    def layout(self, ends: torch.Tensor) -> Told:
        """How they lie, told by `ends` on a device."""
        return Told(np.empty(0, np.int64), ends.device, ends, self.tokens, self.longest)


def filled_up(lengths: NDArray[np.int64]) -> Filled:
    """`Filled.of`, remembered for single rows."""
    return _filled_alone(int(lengths[0])) if len(lengths) == 1 else Filled.of(lengths)


@lru_cache(maxsize=1024)
def _filled_alone(length: int) -> Filled:
    return Filled.of(np.array([length]))


def most_tokens(backbone: Backbone | Bag) -> int:
    """How many tokens are run by graphs at most: none where layers take more than their rows."""
    if not backbone.layers or not backbone.local:
        return 0
    if backbone.prefix:
        return 0
    return int(MOST_WORK / max(backbone.layer_work(layer) for layer in range(backbone.layers)))


def can_capture(hidden: torch.Tensor) -> bool:
    """Whether layers are captured where such states [1, t, h] lie.

    Attention has to be a kernel that is told where rows start.
    """
    return wanted(hidden.device) and attention.fused(hidden)


def run_layers(
    captures: Captures, backbone: Backbone | Bag, state: State, start: int, stop: int
) -> State:
    """`Backbone.run` by a graph of tokens, rows and greatest length filled up to a few sizes."""
    filled = filled_up(state.layout.lengths)

    def run(hidden: torch.Tensor, ends: torch.Tensor) -> Tensors:
        found = backbone.run(State(hidden.unsqueeze(0), filled.layout(ends)), start, stop)
        return (found.hidden.squeeze(0),)

    given = state.hidden.squeeze(0)
    hidden = captures(
        (start, stop, filled.longest),
        given.device,
        run,
        {"hidden": given, "ends": put(filled.ends, given.device)},
        (filled.tokens, len(filled.ends)),
        [len(given)],
        lambda outputs: outputs[0].clone(),
    )
    if hidden is None:
        return backbone.run(state, start, stop)
    return replace(state, hidden=hidden.unsqueeze(0))
