"""Batches within a budget of tokens, which gives way where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.tokens import batches

Rows = NDArray[np.int64]
Result = TypeVar("Result")
# Tokens of a batch, which bound the peak memory whatever the rows. On one CPU core more than
# 4,096 made BERT-base and MiniLM slower by up to a tenth, fewer than 2,048 too.
_ON_CPU, _ELSEWHERE = 4096, 65536


def budget_of(device: torch.device) -> int:
    """Tokens that a tier is given at once on a device."""
    return _ON_CPU if device.type == "cpu" else _ELSEWHERE


class Queue:
    """Rows that wait for a tier, handed out longest first in batches that fit into memory."""

    def __init__(
        self,
        rows: Rows,
        lengths: NDArray[np.int64],
        batch_size: int,
        budget: int,
        first: int | None = None,
    ) -> None:
        """All rows of a call are known by their numbers; some of them wait.

        Args:
            rows: [b] those that wait.
            lengths: [r] tokens of every row of the call.
            batch_size: rows of a batch at most.
            budget: tokens of a batch at most, unless one row alone has more.
            first: rows that are handed out at once at most; None for `batch_size`.
        """
        self.lengths, self.batch_size, self.budget = lengths, batch_size, budget
        self._first = first or batch_size
        self._todo = self._part(rows)

    def __bool__(self) -> bool:
        return bool(self._todo)

    def take(self) -> Rows:
        """The next batch."""
        return self._todo.pop(0)

    def full(self, rows: int, tokens: int, longest: int) -> bool:
        """Whether so many rows make a batch that has no room for one more like the longest."""
        return rows >= self.batch_size or tokens + longest > self.budget

    def cut(self, rows: Rows) -> list[Rows]:
        """Places [b'] in `rows` of those that make a batch, longest first."""
        return batches(self.lengths[rows], self.batch_size, self.budget)

    def attempt(self, run: Callable[[], Result], rows: Rows) -> Result | None:
        """What `run` makes of a batch; None where memory ran out.

        Then its rows wait again, and from now on the budget is half the tokens it had.

        Raises:
            RuntimeError: memory does not even hold one row, or another error.
        """
        try:
            return run()
        except RuntimeError as error:
            if len(rows) == 1 or not _out_of_memory(error):
                raise
            failure = type(error).__name__
        # here and not above: until the handler ends, its traceback holds the batch's tensors
        tokens = int(self.lengths[rows].sum())
        self.budget = max(1, tokens // 2)
        warnings.warn(
            f"out of memory ({failure}) with {tokens} tokens at once; going on with "
            f"{self.budget}. A smaller batch_size avoids this",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.put_back(rows)
        return None

    def put_back(self, rows: Rows) -> None:
        """Rows that were taken wait again."""
        self._todo = self._part(np.unique(np.concatenate([rows, *self._todo])))

    def _part(self, rows: Rows) -> list[Rows]:
        return [rows[part] for part in batches(self.lengths[rows], self._first, self.budget)]


def _out_of_memory(error: RuntimeError) -> bool:
    """A GPU's error has a type of its own; the CPU's allocator only says so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
