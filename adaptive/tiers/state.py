"""Texts on their way through a tier: packed one behind the other, or padded where need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from adaptive.device.captures import by_kernel
from adaptive.device.transfer import put
from adaptive.text.tokens import ranges

# Runs layer number i of a model on hidden states.
Step = Callable[[int, nn.Module, torch.Tensor], torch.Tensor]
# Runs layers from one number to another, the latter excluded.
Run = Callable[[int, int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows one behind the other: hidden states [1, t, h]."""

    lengths: NDArray[np.int64]  # [b] tokens of each row, on the host
    device: torch.device

    @property
    def rows(self) -> int:
        """How many there are, b."""
        return len(self.lengths)

    @cached_property
    def positions(self) -> torch.Tensor:
        """Place of each token in its row, [t]."""
        return put(ranges(np.zeros_like(self.lengths), self.lengths), self.device)

    @cached_property
    def owner(self) -> torch.Tensor:
        """Row of each token, [t]."""
        return put(np.repeat(np.arange(len(self.lengths)), self.lengths), self.device)

    @cached_property
    def starts(self) -> torch.Tensor:
        """First token of each row, [b]."""
        return put(self._starts, self.device)

    @cached_property
    def ends(self) -> torch.Tensor:
        """Where rows start, and where the last one ends, [b + 1] int32."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return put(ends.astype(np.int32), self.device)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def _tokens(self) -> torch.Tensor:
        return torch.arange(int(self.lengths.sum()), device=self.device)

    def lay(self, values: torch.Tensor, filler: int = 0) -> torch.Tensor:
        """Values [t] of a batch as this layout has them: [1, t]."""
        return values.unsqueeze(0)

    def mean(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mean over the tokens of each row, [b, h]; zeros where there are none."""
        if by_kernel(hidden):
            from adaptive.tiers.kernels import row_means

            return row_means(hidden[0], self.ends)
        if len(self.lengths) == 1 and hidden.shape[1]:  # in a third of the time
            return hidden.mean(1)
        # mode 1 is the mean; torch.nn.functional's wrapper costs more than a short text's sum
        found: torch.Tensor = torch.embedding_bag(hidden[0], self._tokens, self.starts, False, 1)[0]
        return found

    def at(self, hidden: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """The tokens at the given places [b] of their rows, else the first ones: [b, h]."""
        index = self.starts if places is None else self.starts + places
        return hidden[0].index_select(0, index)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which places of the states are the given rows' [b']."""
        return ranges(self._starts[rows], self.lengths[rows])

    def select(
        self, hidden: torch.Tensor, rows: NDArray[np.int64], places: torch.Tensor
    ) -> tuple[torch.Tensor, Packed]:
        """Hidden states of the given rows [b'] at their `places`, and how they lie."""
        return hidden.index_select(1, places), Packed(self.lengths[rows], self.device)

    @staticmethod
    def join(
        parts: Sequence[torch.Tensor], layouts: Sequence[Packed]
    ) -> tuple[torch.Tensor, Packed]:
        """Hidden states of several batches as those of one."""
        lengths = np.concatenate([layout.lengths for layout in layouts])
        return torch.cat(list(parts), 1), Packed(lengths, layouts[0].device)


@dataclass(frozen=True, eq=False)
class Padded:
    """Rows filled up to the longest of them: hidden states [b, w, h].

    For families whose attention is their own and knows no other way.
    """

    lengths: NDArray[np.int64]  # [b] tokens of each row, on the host
    device: torch.device

    @cached_property
    def mask(self) -> torch.Tensor:
        """True at real tokens, [b, w]."""
        real = np.arange(self.lengths.max(initial=0)) < self.lengths[:, None]
        return put(real, self.device)

    def lay(self, values: torch.Tensor, filler: int = 0) -> torch.Tensor:
        """Values [t] of a batch as this layout has them: [b, w]."""
        laid = values.new_full(self.mask.shape, filler)
        laid[self.mask] = values
        return laid

    def mean(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mean over the tokens of each row, [b, h]; zeros where there are none."""
        total = hidden.masked_fill(~self.mask.unsqueeze(-1), 0).sum(1)
        return total / self.mask.sum(1, keepdim=True).clamp(min=1)

    def at(self, hidden: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """The tokens at the given places [b] of their rows, else the first ones: [b, h]."""
        if places is None:
            return hidden[:, 0]
        return hidden[torch.arange(len(hidden), device=hidden.device), places]

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which places of the states are the given rows' [b']."""
        return rows

    def select(
        self, hidden: torch.Tensor, rows: NDArray[np.int64], places: torch.Tensor
    ) -> tuple[torch.Tensor, Padded]:
        """Hidden states of the given rows [b'], cut to their longest, and how they lie."""
        kept = Padded(self.lengths[rows], self.device)
        return hidden.index_select(0, places)[:, : kept.lengths.max(initial=0)], kept

    @staticmethod
    def join(
        parts: Sequence[torch.Tensor], layouts: Sequence[Padded]
    ) -> tuple[torch.Tensor, Padded]:
        """Hidden states of several batches as those of one, filled up to the widest."""
        lengths = np.concatenate([layout.lengths for layout in layouts])
        width = max(part.shape[1] for part in parts)
        filled = [functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts]
        return torch.cat(filled), Padded(lengths, layouts[0].device)


@dataclass(frozen=True, slots=True)
class Parted:
    """One row as what each of its w tokens brings, in float32, to be asked what each did."""

    given: torch.Tensor  # [1, w, h]
    blank: torch.Tensor  # [1, w, h] of a text that says nothing
    joined: Callable[[torch.Tensor], State]  # s such rows [s, w, h] before the first layer


@dataclass(frozen=True, slots=True)
class State:
    """Hidden states of some texts between two layers."""

    hidden: torch.Tensor  # [1, t, h] packed, [b, w, h] padded
    layout: Packed | Padded
    last: torch.Tensor | None = None  # [b] int64 place in its row of the token decoders pool
    run: Run | None = None  # runs layers on rows that lie like this; made by the first run

    def select(self, rows: NDArray[np.int64], places: torch.Tensor | None = None) -> State:
        """The given rows; `rows` [b'] on the host.

        Args:
            places: the layout's `places` of them, where they are on the device already.
        """
        if places is None:
            places = put(self.layout.places(rows), self.hidden.device)
        hidden, layout = self.layout.select(self.hidden, rows, places)
        last = None if self.last is None else self.last[put(rows, hidden.device)]
        return State(hidden, layout, last)

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The rows of several batches, between the same two layers of one model."""
        layouts: list[Any] = [state.layout for state in states]  # all of one kind
        hidden, layout = layouts[0].join([state.hidden for state in states], layouts)
        last = [state.last for state in states if state.last is not None]
        return State(hidden, layout, torch.cat(last) if last else None)
