"""What each piece of a cascade takes on the device it lies on, in milliseconds a text."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm

from adaptive.bundle.contents import Bundle, dtype_of
from adaptive.costs import MILLISECONDS, CostTable
from adaptive.exits.measures import Past
from adaptive.exits.reliability import Reliability
from adaptive.opinions import opinion
from adaptive.routers import Router
from adaptive.routers.features import STATISTICS, router_features
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch
from adaptive.work import work_of

REPEATS = 5  # of a bundle's pieces


@torch.inference_mode()
def measure_costs(
    tiers: Sequence[Tier],
    reliability: Reliability,
    device: torch.device,
    *,
    batch_size: int,
    lengths: Sequence[int],
    repeats: int,
    quiet: bool = True,
) -> CostTable:
    """Medians of `repeats` runs of each piece, interleaved, at each length.

    Batches are full and of one length, as the hot loop's sorted ones nearly are. The router is
    left at zero here, see `with_router`.
    """
    longest = _longest(tiers)
    lengths = [n for n in lengths if n <= longest]
    lengths = lengths if len(lengths) > 1 else [max(1, longest // 2), longest]
    stages = sum(len(tier.depths) for tier in tiers)
    embed = np.zeros((repeats, len(tiers), len(lengths)))
    segment, head = (np.zeros((repeats, stages, len(lengths))) for _ in range(2))
    for column, length in enumerate(tqdm(lengths, desc="costs", disable=quiet)):
        batch = _batch(batch_size, length, tiers[-1], device)
        for repeat in range(-2, repeats):  # two rounds warm up: graphs are captured in the second
            times = _round(tiers, reliability, batch, device)
            if repeat >= 0:
                embed[repeat, :, column], segment[repeat, :, column], head[repeat, :, column] = (
                    times
                )
    scale = 1e3 / batch_size
    return CostTable(
        unit=MILLISECONDS,
        lengths=np.asarray(lengths, dtype=np.float64),
        embed=np.median(embed, 0) * scale,
        segment=np.median(segment, 0) * scale,
        head=np.median(head, 0) * scale,
        router=np.zeros(len(lengths)),
        measured={**machine(device), "batch_size": batch_size, "dtype": dtype_of(tiers)},
    )


def with_router(measured: CostTable, tiers: Sequence[Tier], router: Router | None) -> CostTable:
    """A measured table with a router's cost: its work at the pace of all tiers' layers."""
    work = work_of(tiers, router)
    pace = measured.segment.sum(0) / (work.segment[:, 1].sum() * measured.lengths)
    return replace(measured, router=work.router[0] * pace)


def costs_here(bundle: Bundle, batch_size: int, quiet: bool = True) -> CostTable:
    """A bundle's cost table, measured anew where it was measured on another device or dtype.

    Counted work is the same everywhere, and what a bundle without a table is priced in.

    Args:
        batch_size: rows of a batch, where it is measured anew.
    """
    costs = bundle.costs
    if costs is None:
        return work_of(bundle.tiers, bundle.router)
    here = {"device": machine(bundle.device)["device"], "dtype": bundle.dtype}
    if costs.unit != MILLISECONDS or here.items() <= costs.measured.items():
        return costs
    table = measure_costs(
        bundle.tiers,
        bundle.reliability,
        bundle.device,
        batch_size=batch_size,
        lengths=[int(length) for length in costs.lengths],
        repeats=REPEATS,
        quiet=quiet,
    )
    if bundle.router is None:
        return table
    router = _router_milliseconds(bundle, bundle.router, batch_size)
    return replace(table, router=np.full(len(table.lengths), router))


@torch.inference_mode()
def _router_milliseconds(bundle: Bundle, router: Router, batch_size: int) -> float:
    """What a router's features and its risk take, for each text."""
    bag, classes = bundle.tiers[0].backbone, len(bundle.labels)
    pooled = torch.zeros(batch_size, bag.hidden, device=bundle.device)
    anchor = torch.full((batch_size, classes), 1.0 / classes, device=bundle.device)
    statistics = torch.zeros(batch_size, len(STATISTICS), device=bundle.device)

    def ask() -> torch.Tensor:
        return router.risk(router_features(pooled, anchor, statistics)).cpu()

    took = [_timed(bundle.device, ask)[1] for _ in range(2 + REPEATS)][2:]  # two warm up
    return 1e3 * float(np.median(took)) / batch_size


def machine(device: torch.device) -> dict[str, Any]:
    """What figures were measured on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _round(
    tiers: Sequence[Tier], reliability: Reliability, batch: TokenBatch, device: torch.device
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of every embedding, segment and head, once."""
    embed, segment, head = [], [], []
    rows, stage = len(batch.lengths), 0
    in_graph = any(tier.in_graphs for tier in tiers)
    anchor = torch.full((rows, len(tiers[0].labels)), 1.0 / len(tiers[0].labels), device=device)
    log_length = torch.zeros(rows, device=device)
    for tier in tiers:
        state, took = _timed(device, tier.embed, batch)
        embed.append(took)
        history: Past = None
        for exit in range(len(tier.depths)):
            state, took = _timed(device, tier.advance, state, exit)
            segment.append(took if tier.segment_work(exit) else 0.0)
            say = partial(opinion, stage=stage, reliability=reliability, in_graph=in_graph)
            heard = anchor if stage else None
            said, took = _timed(device, say, tier, exit, state, history, heard, log_length)
            head.append(took)
            history, stage = said.history, stage + 1
    return embed, segment, head


def _timed(device: torch.device, work: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*given)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def _batch(rows: int, length: int, full: Tier, device: torch.device) -> TokenBatch:
    generator = torch.Generator().manual_seed(length)
    vocabulary = len(full.backbone.embedding_table)
    ids = torch.randint(0, vocabulary, (rows * length,), generator=generator)
    return TokenBatch(ids.to(device), np.full(rows, length))


def _longest(tiers: Sequence[Tier]) -> int:
    limits = [getattr(tier.backbone, "max_length", None) for tier in tiers]
    return min([limit for limit in limits if limit is not None], default=1 << 30)
