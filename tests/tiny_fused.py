"""Fused layers run by torch, which stands in for the kernels of a GPU."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from adaptive.tiers import fused
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.state import Packed, State
from adaptive.tiers.surgery import Shape, shrink


def attend(qkv: torch.Tensor, layout: Packed, heads: int, scale: float) -> torch.Tensor:
    parts = qkv.view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3)
    done = [
        functional.scaled_dot_product_attention(*row, scale=scale)
        for row in parts.split(layout.lengths.tolist(), 2)
    ]
    return torch.cat(done, 1).transpose(0, 1).flatten(1)


def add_norm(x: torch.Tensor, residual: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    found: torch.Tensor = norm(x + residual)
    return found


IN_TORCH = fused.Kernels(attend, add_norm)


def by_fused(
    backbone: Backbone, state: State, start: int, stop: int, kernels: fused.Kernels = IN_TORCH
) -> State:
    step = fused.fused_step(backbone, state.hidden, state.layout, kernels)

    def run(first: int, last: int, hidden: torch.Tensor) -> torch.Tensor:
        for i in range(first, last):
            hidden = step(i, backbone.blocks[i], hidden)
        return hidden

    return backbone.run(replace(state, run=run), start, stop)


def pruned(backbone: Backbone) -> Backbone:
    shape = Shape(
        (0, 2, 3), ((0, 2), (1, 2, 3), (0,)), (tuple(range(20)), (3, 40), tuple(range(48)))
    )
    return shrink(backbone, shape)
