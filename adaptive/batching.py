"""Batches within a budget of tokens, which gives way where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.tokens import batches

Rows = NDArray[np.int64]
# Tokens of a batch, which bound the peak memory whatever the rows. On one CPU core more than
# 4,096 made BERT-base and MiniLM slower by up to a tenth, fewer than 2,048 too.
_ON_CPU, _ELSEWHERE = 4096, 65536


def budget_of(device: torch.device) -> int:
    """Tokens that a tier is given at once on a device."""
    return _ON_CPU if device.type == "cpu" else _ELSEWHERE


def run_batches(
    run: Callable[[Rows], None],
    rows: Rows,
    lengths: NDArray[np.int64],
    batch_size: int,
    budget: int,
) -> int:
    """Run all rows in batches, longest first; where memory runs out, go on in smaller ones.

    Args:
        run: takes some of the rows. It may be given rows again that it failed on.
        rows: [b] row numbers.
        lengths: [b] their tokens.
        batch_size: rows of a batch at most.
        budget: tokens of a batch at most.

    Returns:
        The budget that was left, for the next call.

    Raises:
        RuntimeError: memory does not even hold one row.
    """
    todo = batches(lengths, batch_size, budget)
    while todo:
        batch, failure = todo[0], None
        try:
            run(rows[batch])
        except RuntimeError as error:
            if len(batch) == 1 or not _out_of_memory(error):
                raise
            failure = type(error).__name__
        if failure is None:
            todo = todo[1:]
            continue
        # here and not above: until the handler ends, its traceback holds the batch's tensors
        budget = max(1, int(lengths[batch].sum()) // 2)
        warnings.warn(
            f"out of memory ({failure}) with {int(lengths[batch].sum())} tokens at once; going "
            f"on with {budget}. A smaller batch_size avoids this",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        left = np.concatenate(todo)
        todo = [left[part] for part in batches(lengths[left], batch_size, budget)]
    return budget


def _out_of_memory(error: RuntimeError) -> bool:
    """A GPU's error has a type of its own; the CPU's allocator only says so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
