"""Attention of rows that lie one behind the other in one sequence, without padding.

Registered with transformers under a name of its own, so every family whose attention goes
through transformers' interface gets it, and no model code is copied. A layer is handed a
`Sight` where it expects its mask. A plain mask, or none, comes from the model's own forward,
which runs on transformers' `sdpa`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from adaptive.device.transfer import put
from adaptive.errors import FamilyError
from adaptive.tiers.prefixes import Prefix, prefix_of
from adaptive.tiers.state import Packed

NAME = "adaptive_packed"
# Kernels of CPUs are up to twice as fast where the tokens of a row are a multiple of this.
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of like length, which one kernel call takes filled up to one width."""

    start: int  # first token
    stop: int
    rows: int
    width: int
    take: torch.Tensor | None  # [rows x width] token at each place; None where rows fill it
    back: torch.Tensor | None  # [stop - start] place of each token
    mask: torch.Tensor | None  # [rows or 1, 1, width or 1, width], added to the scores
    causal: bool  # the kernel's own causal mask is enough


@dataclass(frozen=True, eq=False)
class Sight:
    """Which tokens each token sees: one value for all layers of a kind."""

    layout: Packed
    dtype: torch.dtype  # of the hidden states
    causal: bool = False  # nobody sees what comes later
    window: int | None = None  # tokens further apart do not see each other; None = all do

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All rows that have tokens, in their order."""
        lengths = self.layout.lengths
        widths = -(-lengths // WIDTH) * WIDTH
        starts = np.cumsum(lengths) - lengths
        changes = np.flatnonzero(np.diff(widths)) + 1
        return tuple(
            self._block(int(starts[rows[0]]), lengths[rows], int(widths[rows[0]]))
            for rows in np.split(np.arange(len(widths)), changes)
            if len(rows) and widths[rows[0]]
        )

    def _block(self, start: int, lengths: NDArray[np.int64], width: int) -> Block:
        real = np.arange(width) < lengths[:, None]
        take = back = None
        if not real.all():
            starts = start + np.cumsum(lengths) - lengths
            places = np.where(real, starts[:, None] + np.arange(width), start).ravel()
            take = put(places, self.layout.device)
            back = put(np.flatnonzero(real), self.layout.device)
        window = None if self.window is None or self.window >= width - 1 else self.window
        return Block(
            start=start,
            stop=start + int(lengths.sum()),
            rows=len(lengths),
            width=width,
            take=take,
            back=back,
            mask=self._mask(real, window),
            causal=self.causal and window is None,
        )

    def _mask(self, real: NDArray[np.bool_], window: int | None) -> torch.Tensor | None:
        """What is added to the scores of rows whose tokens are `real` [rows, width]."""
        if window is not None:
            place = np.arange(real.shape[1])
            ahead = place - place[:, None]
            seen = (-ahead <= window) & (ahead <= (0 if self.causal else window))
            if not self.causal:
                # a filler sees itself: a softmax over nothing would give NaN, also to gradients
                seen = (seen & real[:, None]) | (ahead == 0)
        elif self.causal or real.all():
            return None  # what fills a row up comes after all that it could be seen by
        else:
            seen = real[:, None]
        mask = torch.zeros(seen.shape, dtype=self.dtype)
        mask.masked_fill_(torch.from_numpy(~seen), -torch.inf)
        return mask.reshape(-1, 1, *mask.shape[-2:]).to(self.layout.device)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Sight | torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' layers call it.

    Args:
        query: [1, heads, t, d]; key and value may have fewer heads, each shared by as many.

    Returns:
        [1, t, heads, d], and no weights.

    Raises:
        FamilyError: the module has a prefix, and the mask comes from the model's own forward.
    """
    prefix = prefix_of(module)
    if not isinstance(attention_mask, Sight):
        if prefix is not None:
            raise FamilyError("a tier with a prefix is run layer by layer, not by its own forward")
        plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
        found: tuple[torch.Tensor, None] = plain(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    # Layers hold tokens before heads in memory, so these are views.
    parts = [x.transpose(1, 2).squeeze(0) for x in (query, key, value)]
    if fused(query) and not dropout and prefix is None:
        return _by_kernel(parts, attention_mask, dropout, scaling).unsqueeze(0), None
    return _by_blocks(parts, attention_mask, dropout, scaling, prefix).unsqueeze(0), None


def fused(hidden: torch.Tensor) -> bool:
    """Whether a kernel that takes rows of any length computes attention of such values."""
    return VARLEN is not None and hidden.is_cuda and hidden.dtype in _HALVES


def _by_blocks(
    parts: list[torch.Tensor],
    sight: Sight,
    dropout: float,
    scaling: float | None,
    prefix: Prefix | None = None,
) -> torch.Tensor:
    """Query, key and value [t, heads, d] to [t, heads, d], one kernel call a block."""
    done = []
    heads, size = parts[0].shape[1:]
    for block in sight.blocks:
        shape = (block.rows, block.width, heads, size)
        if block.take is None:
            filled = [x[block.start : block.stop] for x in parts]
        else:
            filled = [x.flatten(1).index_select(0, block.take) for x in parts]
        query, key, value = (x.view(shape).transpose(1, 2) for x in filled)
        mask, causal = block.mask, block.causal
        if prefix is not None:
            key, value = prefix.before(key, value)
            mask, causal = _seen_with_prefix(block, prefix.keys.shape[1], query), False
        out = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal,
            scale=scaling,
        )
        out = out.transpose(1, 2).reshape(-1, heads * size)
        done.append(out if block.back is None else out.index_select(0, block.back))
    whole = done[0] if len(done) == 1 else torch.cat(done)
    return whole.view(-1, heads, size)


def _seen_with_prefix(block: Block, tokens: int, query: torch.Tensor) -> torch.Tensor | None:
    """The block's mask where keys begin with a prefix, which every token sees."""
    mask = block.mask
    if block.causal:
        later = torch.ones(block.width, block.width, dtype=torch.bool, device=query.device).triu(1)
        mask = query.new_zeros(1, 1, block.width, block.width).masked_fill(later, -torch.inf)
    return None if mask is None else functional.pad(mask, (tokens, 0))


def _by_kernel(
    parts: list[torch.Tensor], sight: Sight, dropout: float, scaling: float | None
) -> torch.Tensor:
    """The same by a kernel that takes rows of any length."""
    assert VARLEN is not None
    reach = -1 if sight.window is None else sight.window
    layout = sight.layout
    out: torch.Tensor = VARLEN(
        *(part.contiguous() for part in parts),
        layout.ends,
        layout.ends,
        layout.longest,
        layout.longest,
        scale=scaling,
        window_size=(reach, 0 if sight.causal else reach),
    )
    return out


def _find_varlen() -> Callable[..., Any] | None:
    """torch's variable-length attention, where it knows windows."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = {"scale", "window_size"} <= set(inspect.signature(varlen_attn).parameters)
    return varlen_attn if known else None


_HALVES = (torch.float16, torch.bfloat16)
VARLEN = _find_varlen()
AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
