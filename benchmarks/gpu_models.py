"""The full model of a bundle on one GPU: eager, compiled, and as CUDA graphs; ours beside it.

All take token rows on the host and give label numbers on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from peer_models import Ids, Plain

from adaptive import tokens
from adaptive.bundle.contents import Bundle
from adaptive.cascade import answer
from adaptive.types import Policy, Tokens

Row = NDArray[np.int32]
Serve = Callable[[list[Row], int], Ids]  # token rows and rows of a batch to label numbers
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, mask [b, t] to [b, c]
BASELINES = ("eager", "compiled", "graphs")
WIDTH = 32  # compiled models and graphs see multiples of it


def ours(bundle: Bundle, policy: Policy, *, graphs: bool = True) -> Serve:
    """The cascade under a policy, by CUDA graphs where they pay or without any."""

    def serve(rows: list[Row], batch: int) -> Ids:
        with nullcontext() if graphs else launched_singly(bundle):
            return answer(bundle, join(rows), policy, batch).probabilities.argmax(1)

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


def baseline(name: str, plain: Plain, device: torch.device) -> Serve:
    """The full model as nobody cut it."""
    if name == "eager":
        return padded(plain, device, 1, whole=False)
    if name == "compiled":
        torch._dynamo.reset()
        return padded(torch.compile(plain, dynamic=True), device, WIDTH, whole=False)
    return padded(graphed(plain), device, WIDTH, whole=True)


def padded(model: Forward, device: torch.device, width: int, *, whole: bool) -> Serve:
    """Rows in padded batches, the longest first.

    Args:
        width: that of a batch is a multiple of it.
        whole: the last batch is filled up with rows of one token, so that all have one height.
    """

    @torch.inference_mode()
    def serve(rows: list[Row], batch: int) -> Ids:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        found, order = [], tokens.batches(lengths, batch)
        for part in order:
            own = np.pad(lengths[part], (0, batch - len(part) if whole else 0), constant_values=1)
            real = np.arange(-(-own.max() // width) * width) < own[:, None]
            ids = np.zeros(real.shape, np.int64)
            ids[: len(part)][real[: len(part)]] = np.concatenate([rows[row] for row in part])
            mask = torch.from_numpy(real.astype(np.int64)).to(device)
            found.append(model(torch.from_numpy(ids).to(device), mask).argmax(1)[: len(part)])
        answers = np.empty(len(rows), np.int64)
        answers[np.concatenate(order)] = torch.cat(found).cpu().numpy()
        return answers

    return serve


def graphed(plain: Plain) -> Forward:
    """The model as one CUDA graph for each shape of its inputs, in one pool of memory."""
    made: dict[torch.Size, tuple[torch.cuda.CUDAGraph, list[torch.Tensor], torch.Tensor]] = {}

    def capture(*given: torch.Tensor) -> None:
        held = [each.clone() for each in given]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up outside of a capture
            for _ in range(3):
                plain(*held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(made.values()))[0].pool() if made else None
        with torch.cuda.graph(graph, pool=pool):
            output = plain(*held)
        made[given[0].shape] = graph, held, output

    def forward(*given: torch.Tensor) -> torch.Tensor:
        if given[0].shape not in made:
            capture(*given)
        graph, held, output = made[given[0].shape]
        for place, values in zip(held, given, strict=True):
            place.copy_(values)
        graph.replay()
        return output.clone()  # the next replay writes over it

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
