"""Triton kernels for what stands before and behind a tier's layers on a GPU.

Each replaces a dozen small ones, whose launches would take longer than their work. Import it only
where Triton is installed; torch's builds for GPUs bring it. Rows lie one behind the other; `ends`
[r + 1] int32 tells where they start, and where the last one ends.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

TOKENS = 16  # of a row that are read at once


def row_means(hidden: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of each row, [r, h] of [t, h]; zeros where there are none."""
    rows, width = len(ends) - 1, hidden.shape[1]
    found = hidden.new_empty(rows, width)
    if rows:
        block = min(256, triton.next_power_of_2(width))
        _row_means[(rows, triton.cdiv(width, block))](
            hidden.contiguous(), ends, found, width, TOKENS=TOKENS, BLOCK=block
        )
    return found


def bag_means(
    ids: torch.Tensor,
    ends: torch.Tensor,
    table: torch.Tensor,
    score: torch.Tensor,
    pairs: torch.Tensor | None,
) -> torch.Tensor:
    """The texts as a `Bag` sees them, [r, h].

    Args:
        ids: [t] int64.
        table: [V, h] vectors of tokens.
        score: [V] logarithms of their weights.
        pairs: [buckets, h] vectors of hashed neighbours, or None.
    """
    rows, width = len(ends) - 1, table.shape[1]
    found = table.new_empty(rows, width)
    if rows:
        block = min(256, triton.next_power_of_2(width))
        _bag_means[(rows, triton.cdiv(width, block))](
            ids,
            ends,
            table,
            score,
            table if pairs is None else pairs,
            found,
            width,
            1 if pairs is None else len(pairs),
            HAS_PAIRS=pairs is not None,
            TOKENS=TOKENS,
            BLOCK=block,
        )
    return found


@triton.jit
def _row_means(  # type: ignore[no-untyped-def]
    hidden_at, ends_at, to, width, TOKENS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < width
    start, stop = tl.load(ends_at + row), tl.load(ends_at + row + 1)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    first = start
    while first < stop:
        token = first + tl.arange(0, TOKENS)
        at = token.to(tl.int64)[:, None] * width + unit[None, :]
        wanted = (token < stop)[:, None] & inside[None, :]
        total += tl.sum(tl.load(hidden_at + at, mask=wanted, other=0.0).to(tl.float32), 0)
        first += TOKENS
    mean = total / tl.maximum(stop - start, 1).to(tl.float32)
    tl.store(to + row.to(tl.int64) * width + unit, mean.to(to.dtype.element_ty), mask=inside)


@triton.jit
def _bag_means(  # type: ignore[no-untyped-def]
    ids_at,
    ends_at,
    table_at,
    score_at,
    pairs_at,
    to,
    width,
    buckets,
    HAS_PAIRS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < width
    start, stop = tl.load(ends_at + row), tl.load(ends_at + row + 1)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    paired = tl.zeros((BLOCK,), dtype=tl.float32)
    weights = 0.0
    first = start
    while first < stop:
        token = first + tl.arange(0, TOKENS)
        real = token < stop
        one = tl.load(ids_at + token, mask=real, other=0)
        weight = tl.exp(tl.load(score_at + one, mask=real, other=0.0).to(tl.float32))
        weight = tl.where(real, weight, 0.0)
        wanted = real[:, None] & inside[None, :]
        at = one[:, None] * width + unit[None, :]
        vectors = tl.load(table_at + at, mask=wanted, other=0.0).to(tl.float32)
        total += tl.sum(vectors * weight[:, None], 0)
        weights += tl.sum(weight, 0)
        if HAS_PAIRS:  # hashed as in `Bag`
            follows = token + 1 < stop
            other = tl.load(ids_at + token + 1, mask=follows, other=0)
            mixed = one * 2654435761 + other * 2246822519
            bucket = (mixed ^ (mixed >> 15)) % buckets
            wanted = follows[:, None] & inside[None, :]
            at = bucket[:, None] * width + unit[None, :]
            paired += tl.sum(tl.load(pairs_at + at, mask=wanted, other=0.0).to(tl.float32), 0)
        first += TOKENS
    mean = total / tl.maximum(weights, 1e-6)
    if HAS_PAIRS:
        mean += paired / tl.maximum(stop - start - 1, 1).to(tl.float32)
    tl.store(to + row.to(tl.int64) * width + unit, mean.to(to.dtype.element_ty), mask=inside)
