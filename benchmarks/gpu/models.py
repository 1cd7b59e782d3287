"""The full model of a bundle on one GPU: eager, compiled, and as CUDA graphs; ours beside it.

All take token rows on the host and give label numbers on the host. The others are what a careful
engineer would write around padded batches: rows sorted by length, as many of them at once as fit
a budget of tokens, widths rounded to a few, one copy from pinned memory a batch, which the host
does not wait for, the mask made on the device in the form that attention adds, labels and not
logits copied back, and one wait a call. Graphs have fixed shapes and read what is copied where
they find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from peer_models import Ids, Plain
from torch import nn

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.types import Policy, Tokens

Row = NDArray[np.int32]
Serve = Callable[[list[Row], int], Ids]  # token rows and rows of a batch to label numbers
# token ids [b, w] int32 in pinned memory, -1 where a row is filled up, to labels [b] on the device
Forward = Callable[[torch.Tensor], torch.Tensor]
TOKENS = 65536  # of a padded batch at most


class Labeller(nn.Module):
    """Padded rows to label numbers, all on the device."""

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.model, self.head = plain.model, plain.head
        self.kind = plain.model.dtype

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Label numbers [b] of ids [b, w], -1 where a row is filled up."""
        real = rows >= 0
        # in the form that kernels add, or each layer would make it anew of a mask of booleans
        mask = torch.zeros(real.shape, dtype=self.kind, device=rows.device)
        mask = mask.masked_fill(~real, -torch.inf)[:, None, None]
        mask = mask.expand(-1, 1, rows.shape[1], -1)
        ids = rows.clamp(min=0)
        if self.head is None:
            return self.model(input_ids=ids, attention_mask=mask)[0].argmax(1)
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask)[0]
        weight = real.unsqueeze(-1).to(self.kind)
        return self.head((hidden * weight).sum(1) / weight.sum(1)).argmax(1)


def ours(bundle: Bundle, policy: Policy, *, graphs: bool = True) -> Serve:
    """The cascade under a policy, by CUDA graphs where they pay or without any."""

    def serve(rows: list[Row], batch: int) -> Ids:
        with nullcontext() if graphs else launched_singly(bundle):
            return answer(bundle, join(rows), policy, batch, whole=False).label

    return serve


@contextmanager
def launched_singly(bundle: Bundle) -> Iterator[None]:
    """No graphs, while it lasts."""
    before = [tier.captures.off for tier in bundle.tiers]
    for tier in bundle.tiers:
        tier.captures.off = True
    try:
        yield
    finally:  # a way that fails is left out, and the others go on
        for tier, off in zip(bundle.tiers, before, strict=True):
            tier.captures.off = off


@dataclass(slots=True)
class Shop:
    """What serves the uncut full model; compiled once for all that need it."""

    labeller: Labeller
    device: torch.device
    fused: Callable[[torch.Tensor], torch.Tensor] | None = None

    def make(self, name: str) -> Serve:
        """One of `gpu.results.BASELINES`."""
        model = self.compiled() if name.startswith("compiled") else self.labeller
        if name.endswith("graphs"):
            return padded(graphed(model), self.device, whole=True)
        return padded(lambda rows: model(rows.to(self.device, non_blocking=True)), self.device)

    def compiled(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The model for inputs of any shape; of one row it is compiled once more."""
        if self.fused is None:
            self.fused = torch.compile(self.labeller, dynamic=True)
        return self.fused


def padded(forward: Forward, device: torch.device, *, whole: bool = False) -> Serve:
    """Rows in padded batches, the longest first.

    Args:
        whole: batches have one of a few heights, for which they are filled up with rows of one
            token.
    """
    pinned = device.type == "cuda"

    def fill(rows: list[Row], own: NDArray[np.int64], height: int) -> torch.Tensor:
        held = torch.empty(height, width_of(int(own[0])), dtype=torch.int32, pin_memory=pinned)
        values = held.numpy()
        values.fill(-1)
        values[len(own) :, 0] = 0
        real = np.arange(values.shape[1]) < own[:, None]
        values[: len(own)][real] = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return held

    @torch.inference_mode()
    def serve(rows: list[Row], batch: int) -> Ids:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        order = np.argsort(-lengths, kind="stable")
        found = torch.empty(len(rows), dtype=torch.int64, pin_memory=pinned)
        start = 0
        while start < len(rows):
            most = min(batch, max(1, TOKENS // width_of(int(lengths[order[start]]))))
            part = order[start : start + most]
            height = min(most, 1 << (len(part) - 1).bit_length()) if whole else len(part)
            held = fill([rows[row] for row in part], lengths[part], height)
            labels = forward(held)[: len(part)]
            found[start : start + len(part)].copy_(labels, non_blocking=True)
            start += len(part)
        if pinned:
            torch.cuda.current_stream(device).synchronize()
        answers = np.empty(len(rows), np.int64)
        answers[order] = found.numpy()
        return answers

    return serve


def width_of(length: int) -> int:
    """Tokens that a batch is as wide as: a multiple of 8, and of an eighth of the next doubling."""
    step = max(8, (1 << max(length - 1, 1).bit_length()) // 8)
    return -(-length // step) * step


def graphed(model: Callable[[torch.Tensor], torch.Tensor]) -> Forward:
    """The model as one CUDA graph for each shape of its input, in one pool of memory."""
    made: dict[torch.Size, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}

    def capture(given: torch.Tensor) -> None:
        held = given.to("cuda")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up outside of a capture
            for _ in range(2):
                model(held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(made.values()))[0].pool() if made else None
        with torch.cuda.graph(graph, pool=pool):
            output = model(held)
        made[given.shape] = graph, held, output

    def forward(given: torch.Tensor) -> torch.Tensor:
        if given.shape not in made:
            capture(given)
        graph, held, output = made[given.shape]
        held.copy_(given, non_blocking=True)
        graph.replay()
        return output  # is copied before the next replay, on the same stream

    return forward


def join(rows: list[Row]) -> Tokens:
    """Rows as the runtime takes them."""
    return Tokens(
        ids=np.concatenate(rows),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        types=None,
        owner=np.arange(len(rows), dtype=np.int64),
        truncated=np.zeros(len(rows), dtype=np.bool_),
    )


def split(tokens: Tokens) -> list[Row]:
    """Rows as the others take them."""
    return np.split(tokens.ids, tokens.offsets[1:-1])
