"""Batches of waiting rows, within limits that give way where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.text.tokens import batches

Slots = NDArray[np.int64]
Result = TypeVar("Result")
# Tokens of a batch, which bound the peak memory whatever the rows. On one CPU core more than
# 4,096 made BERT-base and MiniLM slower by up to a tenth, fewer than 2,048 too.
_ON_CPU, _ELSEWHERE = 4096, 65536


def budget_of(device: torch.device) -> int:
    """Tokens that a tier is given at once on a device."""
    return _ON_CPU if device.type == "cpu" else _ELSEWHERE


@dataclass(slots=True)
class Limits:
    """What a batch may hold. The budget shrinks for good where memory runs out."""

    batch_size: int  # rows at most
    budget: int  # tokens at most, unless one row alone has more

    def full(self, rows: int, tokens: int, longest: int) -> bool:
        """Whether so many rows make a batch that has no room for one more like the longest."""
        return rows >= self.batch_size or tokens + longest > self.budget

    def cut(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Places of rows of these lengths [b] in batches, longest first."""
        return batches(lengths, self.batch_size, self.budget)

    def attempt(self, work: Callable[[], Result], lengths: NDArray[np.int64]) -> Result | None:
        """What `work` makes of a batch; None where memory ran out.

        Then the budget is from now on half the tokens that the batch had.

        Args:
            lengths: [b] tokens of the batch's rows.

        Raises:
            RuntimeError: memory does not even hold one row, or another error.
        """
        try:
            return work()
        except RuntimeError as error:
            if len(lengths) == 1 or not _out_of_memory(error):
                raise
            failure = type(error).__name__
        # here and not above: until the handler ends, its traceback holds the batch's tensors
        tokens = int(lengths.sum())
        self.budget = max(1, tokens // 2)
        warnings.warn(
            f"out of memory ({failure}) with {tokens} tokens at once; going on with "
            f"{self.budget}. A smaller batch_size avoids this",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


class RowQueue:
    """Rows that wait, longest first. Any number may join; batches of rows alike in length leave.

    Attributes:
        slots: [q] those that wait.
        lengths: [q] tokens of each, descending.
        tokens: of all of them.
    """

    def __init__(self, limits: Limits, most: int | None = None) -> None:
        """An empty queue.

        Args:
            most: rows that leave at once, at most; None for the limits' batch size.
        """
        self._limits, self._most = limits, most
        self.slots: Slots = np.empty(0, np.int64)
        self.lengths, self._order = self.slots, self.slots
        self.tokens = 0

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def most(self) -> int:
        """Rows that leave at once, at most."""
        return self._most or self._limits.batch_size

    @property
    def full(self) -> bool:
        """Whether a batch that leaves now has no room for one more like the longest."""
        count = len(self.slots)
        if count >= self.most:
            return True
        return count > 0 and self.tokens + int(self.lengths[0]) > self._limits.budget

    def add(
        self, slots: Slots, lengths: NDArray[np.int64], order: NDArray[np.int64] | None = None
    ) -> None:
        """Rows join.

        Args:
            lengths: [b] tokens of each.
            order: [b] the oldest row has the smallest number; None where all are equally old.
        """
        order = np.zeros(len(slots), np.int64) if order is None else order
        if len(self.slots):
            slots = np.concatenate([self.slots, slots])
            lengths = np.concatenate([self.lengths, lengths])
            order = np.concatenate([self._order, order])
        by_length = np.argsort(-lengths, kind="stable")
        self._keep(slots[by_length], lengths[by_length], order[by_length])

    def take(self, slot: int | None = None) -> Slots:
        """A batch of rows alike in length, among them the given row, else the oldest.

        It holds that row and shorter ones, and longer ones only where these are too few.
        """
        if slot is None:
            first = int(self._order.argmin())  # of equally old ones the longest
        else:
            first = int(np.flatnonzero(self.slots == slot)[0])
        budget = self._limits.budget
        stop = first + max(1, _fitting(self.lengths[first : first + self.most], budget))
        start = first
        if first and stop == len(self.slots):
            room = self.most - (stop - first)
            budget -= int(self.lengths[first:].sum())
            start -= _fitting(self.lengths[max(0, first - room) : first][::-1], budget)
        taken = self.slots[start:stop]
        if start:
            rest = np.concatenate([np.arange(start), np.arange(stop, len(self.slots))])
            self._keep(self.slots[rest], self.lengths[rest], self._order[rest])
        else:
            self._keep(self.slots[stop:], self.lengths[stop:], self._order[stop:])
        return taken

    def remove(self, slots: Slots) -> None:
        """These rows wait no longer, if they did."""
        rest = ~np.isin(self.slots, slots)
        self._keep(self.slots[rest], self.lengths[rest], self._order[rest])

    def _keep(self, slots: Slots, lengths: NDArray[np.int64], order: NDArray[np.int64]) -> None:
        self.slots, self.lengths, self._order = slots, lengths, order
        self.tokens = int(lengths.sum())


def _fitting(lengths: NDArray[np.int64], budget: int) -> int:
    """How many of these rows, from the first on, have no more tokens than the budget."""
    return int(lengths.cumsum().searchsorted(budget, side="right"))


def _out_of_memory(error: RuntimeError) -> bool:
    """A GPU's error has a type of its own; the CPU's allocator only says so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
