"""Triton kernels for embeddings, and for all of an encoder's layer but its products, on a GPU.

Import it only where Triton is installed; torch's builds for GPUs bring it. Rows lie one behind the
other; `ends` [r + 1] int32 tells where they start, and where the last one ends.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LONGEST = 128  # tokens of a row that attention takes as one tile
WIDEST = 128  # numbers of a head
EMBEDDED = 4  # tokens that one program embeds
_WARPS = {16: 1, 32: 1, 64: 4, 128: 4}  # of an attention tile of so many tokens
_LOG2_E = 1.4426950408889634


def row_attention(
    qkv: torch.Tensor, ends: torch.Tensor, longest: int, heads: int, scale: float
) -> torch.Tensor:
    """Attention in which each token sees all of its row, [t, heads x d].

    Args:
        qkv: [t, 3 x heads x d] queries, keys and values, contiguous; d is at most `WIDEST`.
        longest: no row has more tokens; at most `LONGEST`.
        scale: of the products of queries and keys.
    """
    rows, size = len(ends) - 1, qkv.shape[1] // (3 * heads)
    found = qkv.new_empty(qkv.shape[0], heads * size)
    if rows:
        length = max(16, triton.next_power_of_2(longest))
        queries = min(length, 64)
        _row_attention[(rows * heads, length // queries)](
            qkv,
            ends,
            found,
            scale * _LOG2_E,
            heads,
            SIZE=size,
            BLOCK=max(16, triton.next_power_of_2(size)),
            QUERIES=queries,
            LENGTH=length,
            num_warps=_WARPS[length],
        )
    return found


def add_layer_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """The norm of `x + residual` [t, h], as torch would round it: both contiguous."""
    tokens, width = x.shape
    found = torch.empty_like(x)
    if tokens:
        block = triton.next_power_of_2(width)
        warps = min(max(block // 512, 1), 8)
        _add_layer_norm[(tokens,)](
            x, residual, weight, bias, found, eps, width, BLOCK=block, num_warps=warps
        )
    return found


def embed_rows(
    ids: torch.Tensor,
    types: torch.Tensor | None,
    ends: torch.Tensor,
    longest: int,
    tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    norm: tuple[torch.Tensor, torch.Tensor, float],
) -> torch.Tensor:
    """The norm of a token's vector, its type's and its place's, [t, h].

    Args:
        ids: [t] int64.
        types: [t] int64, or None where all are 0.
        longest: no row has more tokens.
        tables: [V, h] of tokens, [n, h] of places, and that of types if there is one.
        norm: weight [h], bias [h] and what is added to the variance.
    """
    word, place, kind = tables
    width, rows = word.shape[1], len(ends) - 1
    found = word.new_empty(len(ids), width)
    if rows and longest:
        block = triton.next_power_of_2(width)
        _embed_rows[(rows, triton.cdiv(longest, EMBEDDED))](
            ids,
            ids if types is None else types,
            ends,
            word,
            place,
            word if kind is None else kind,
            *norm[:2],
            found,
            norm[2],
            width,
            HAS_TYPES=types is not None,
            HAS_KIND=kind is not None,
            TOKENS=EMBEDDED,
            BLOCK=block,
            num_warps=min(max(block // 128, 1), 8),
        )
    return found


@triton.jit
def _row_attention(  # type: ignore[no-untyped-def]
    qkv_at,
    ends_at,
    to,
    scale,
    heads,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    LENGTH: tl.constexpr,
):
    row, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    start, stop = tl.load(ends_at + row), tl.load(ends_at + row + 1)
    first = start + tl.program_id(1) * QUERIES
    if first < stop:
        width = heads * SIZE
        unit = tl.arange(0, BLOCK)
        asking, asked = first + tl.arange(0, QUERIES), start + tl.arange(0, LENGTH)
        here, there = (asking < stop)[:, None], (asked < stop)[:, None]
        if SIZE < BLOCK:
            here, there = here & (unit < SIZE)[None, :], there & (unit < SIZE)[None, :]
        at = asking.to(tl.int64)[:, None] * (3 * width) + (head * SIZE + unit)[None, :]
        query = tl.load(qkv_at + at, mask=here, other=0.0)
        at = asked.to(tl.int64)[:, None] * (3 * width) + (head * SIZE + unit)[None, :]
        key = tl.load(qkv_at + width + at, mask=there, other=0.0)
        value = tl.load(qkv_at + 2 * width + at, mask=there, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where((asked < stop)[None, :], score, float("-inf"))
        share = tl.exp2(score - tl.max(score, 1)[:, None])
        total = tl.sum(share, 1)
        mixed = tl.dot(share.to(value.dtype), value, input_precision="ieee") / total[:, None]
        at = asking.to(tl.int64)[:, None] * width + (head * SIZE + unit)[None, :]
        tl.store(to + at, mixed.to(to.dtype.element_ty), mask=here)


@triton.jit
def _add_layer_norm(  # type: ignore[no-untyped-def]
    x_at, residual_at, weight_at, bias_at, to, eps, width, BLOCK: tl.constexpr
):
    unit = tl.arange(0, BLOCK)
    inside = unit < width
    at = tl.program_id(0).to(tl.int64) * width + unit
    total = tl.load(x_at + at, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(residual_at + at, mask=inside, other=0.0).to(tl.float32)
    total = total.to(to.dtype.element_ty).to(tl.float32)
    mean = tl.sum(total, 0) / width
    apart = tl.where(inside, total - mean, 0.0)
    shrink = 1.0 / tl.sqrt(tl.sum(apart * apart, 0) / width + eps)
    weight = tl.load(weight_at + unit, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_at + unit, mask=inside, other=0.0).to(tl.float32)
    found = apart * shrink * weight + bias
    tl.store(to + at, found.to(to.dtype.element_ty), mask=inside)


@triton.jit
def _embed_rows(  # type: ignore[no-untyped-def]
    ids_at,
    types_at,
    ends_at,
    word_at,
    place_at,
    kind_at,
    weight_at,
    bias_at,
    to,
    eps,
    width,
    HAS_TYPES: tl.constexpr,
    HAS_KIND: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    start, stop = tl.load(ends_at + row), tl.load(ends_at + row + 1)
    place = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    if start + tl.program_id(1) * TOKENS < stop:
        token = start + place
        real = token < stop
        unit = tl.arange(0, BLOCK)
        inside = unit < width
        wanted = real[:, None] & inside[None, :]
        one = tl.load(ids_at + token, mask=real, other=0)
        at = one[:, None] * width + unit[None, :]
        total = tl.load(word_at + at, mask=wanted, other=0.0).to(tl.float32)
        if HAS_KIND:  # rounded after each sum, as torch does
            at = tl.zeros((TOKENS,), tl.int64)[:, None] + unit[None, :]
            if HAS_TYPES:
                at += tl.load(types_at + token, mask=real, other=0)[:, None] * width
            total += tl.load(kind_at + at, mask=wanted, other=0.0).to(tl.float32)
            total = total.to(to.dtype.element_ty).to(tl.float32)
        at = place[:, None] * width + unit[None, :]
        total += tl.load(place_at + at, mask=wanted, other=0.0).to(tl.float32)
        total = total.to(to.dtype.element_ty).to(tl.float32)
        mean = tl.sum(total, 1) / width
        apart = tl.where(wanted, total - mean[:, None], 0.0)
        shrink = 1.0 / tl.sqrt(tl.sum(apart * apart, 1) / width + eps)
        weight = tl.load(weight_at + unit, mask=inside, other=0.0).to(tl.float32)
        bias = tl.load(bias_at + unit, mask=inside, other=0.0).to(tl.float32)
        found = apart * shrink[:, None] * weight[None, :] + bias[None, :]
        at = token.to(tl.int64)[:, None] * width + unit[None, :]
        tl.store(to + at, found.to(to.dtype.element_ty), mask=wanted)
