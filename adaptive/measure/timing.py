"""What each piece of a cascade takes on the device it lies on, in milliseconds a text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle, dtype_of
from adaptive.device.processor import cpu_name
from adaptive.engine.batching import budget_of
from adaptive.engine.exits import RELIABILITY, on_host, run_exit
from adaptive.engine.hops import HopInput, HopSettings, run_hop
from adaptive.engine.plan import Hop
from adaptive.engine.rows import Batch
from adaptive.events import Listener, counted, ignore
from adaptive.exits.measures import Past
from adaptive.exits.reliability import Reliability
from adaptive.measure.work import work_of
from adaptive.policy.costs import MILLISECONDS, CostTable
from adaptive.routers import Router
from adaptive.routers.features import STATISTICS, router_features
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.text.tokens import places
from adaptive.tiers.graphs import torch_threads
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch, Tokens

REPEATS = 5  # of a bundle's pieces
SHALLOW = 4096  # rows that a call takes through the cascade together, at most


@torch.inference_mode()
def measure_costs(
    tiers: Sequence[Tier],
    reliability: Reliability,
    device: torch.device,
    *,
    batch_size: int,
    lengths: Sequence[int],
    repeats: int,
    on_event: Listener = ignore,
    task: Task = SINGLE_LABEL,
) -> CostTable:
    """Medians of `repeats` runs of each piece, interleaved, at each length.

    Batches are full and of one length, as the hot loop's sorted ones nearly are. The router is
    left at zero here, see `with_router`. On a GPU pieces take a fraction of what it takes to
    launch them, so hops are measured there, and what pieces add to them.
    """
    if device.type == "cuda":
        return measure_hops(
            tiers,
            reliability,
            device,
            batch_size=batch_size,
            lengths=lengths,
            repeats=repeats,
            on_event=on_event,
            task=task,
        )
    lengths = _known(lengths, tiers)
    stages = sum(len(tier.depths) for tier in tiers)
    embed = np.zeros((repeats, len(tiers), len(lengths)))
    segment, head = (np.zeros((repeats, stages, len(lengths))) for _ in range(2))
    for column, length in enumerate(counted(on_event, "costs", lengths, "lengths")):
        batch = _batch(batch_size, length, tiers[-1], device)
        for repeat in range(-2, repeats):  # two rounds warm up
            with torch_threads(tiers)():
                times = _round(tiers, reliability, batch, device, task)
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


@torch.inference_mode()
def measure_hops(
    tiers: Sequence[Tier],
    reliability: Reliability,
    device: torch.device,
    *,
    batch_size: int,
    lengths: Sequence[int],
    repeats: int,
    on_event: Listener = ignore,
    task: Task = SINGLE_LABEL,
) -> CostTable:
    """The same from whole hops of a tier, as the hot loop runs them.

    One exit alone is one hop; a layer costs what a later exit takes longer. A head costs what it
    adds to a hop where it is switched off, a decision what it takes to part a hop in two. An exit
    before the first layer is measured on `SHALLOW` rows, since it sees them at once.
    """
    lengths = _known(lengths, tiers)
    counts = [len(tier.depths) for tier in tiers]
    alone = np.zeros((repeats, sum(counts), len(lengths)))
    whole, parted = (np.zeros((repeats, len(tiers), len(lengths))) for _ in range(2))
    for column, length in enumerate(counted(on_event, "costs", lengths, "lengths")):
        rows = _rows(batch_size, length, tiers[-1])
        many = max(batch_size, min(SHALLOW, budget_of(device) // length))
        shallow = rows if many == batch_size else _rows(many, length, tiers[-1])
        for repeat in range(-3, repeats):  # what is captured the second time may be so in turns
            times = _hops_round(tiers, reliability, rows, shallow, device, task)
            if repeat >= 0:
                alone[repeat, :, column], whole[repeat, :, column], parted[repeat, :, column] = (
                    times
                )
    scale = 1e3 / batch_size
    alone, whole, parted = (np.median(each, 0) * scale for each in (alone, whole, parted))
    embed, segment, head = np.zeros_like(whole), np.zeros_like(alone), np.zeros_like(alone)
    decisions, first = [], 0
    for tier, count in enumerate(counts):
        own = slice(first, first + count)
        until = np.maximum.accumulate(alone[own], 0)
        more = max(count - 1, 1)
        head[own] = np.maximum(whole[tier] - until[-1], 0.0) / more if count > 1 else 0.0
        segment[first + 1 : first + count] = np.diff(until, axis=0)
        embed[tier] = np.maximum(until[0] - head[first], 0.0)
        if count > 1:
            decisions.append(np.maximum(parted[tier] - whole[tier], 0.0) / more)
        first += count
    return CostTable(
        unit=MILLISECONDS,
        lengths=np.asarray(lengths, dtype=np.float64),
        embed=embed,
        segment=segment,
        head=head,
        router=np.zeros(len(lengths)),
        measured={**machine(device), "batch_size": batch_size, "dtype": dtype_of(tiers)},
        decision=np.mean(decisions, 0) if decisions else np.zeros(len(lengths)),
    )


def with_router(measured: CostTable, work: CostTable) -> CostTable:
    """A measured table with a router's cost: its work at the pace of all tiers' layers.

    Args:
        work: counted, of the same stages, the router included.
    """
    pace = measured.segment.sum(0) / (work.segment[:, 1].sum() * measured.lengths)
    return replace(measured, router=work.router[0] * pace)


def costs_here(bundle: Bundle, batch_size: int, on_event: Listener = ignore) -> CostTable:
    """A bundle's cost table, measured anew where it was measured elsewhere or in another dtype.

    Elsewhere is another GPU; or, on a CPU, another model or number of threads.

    Counted work is the same everywhere, and what a bundle without a table is priced in.

    Args:
        batch_size: rows of a batch, where it is measured anew.
    """
    costs = bundle.costs
    if costs is None:
        return work_of(bundle.tiers, bundle.router)
    names = ("device",) if bundle.device.type == "cuda" else ("device", "processor", "threads")
    here = {name: machine(bundle.device)[name] for name in names} | {"dtype": bundle.dtype}
    if costs.unit != MILLISECONDS or here.items() <= costs.measured.items():
        return costs
    table = measure_costs(
        bundle.tiers,
        bundle.reliability,
        bundle.device,
        batch_size=batch_size,
        lengths=[int(length) for length in costs.lengths],
        repeats=REPEATS,
        on_event=on_event,
        task=bundle.task,
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
        shares = bundle.task.distribution(anchor)
        return router.risk(router_features(pooled, shares, statistics)).cpu()

    with torch_threads(bundle.tiers)():
        took = [_timed(bundle.device, ask)[1] for _ in range(2 + REPEATS)][2:]  # two warm up
    return 1e3 * float(np.median(took)) / batch_size


def machine(device: torch.device) -> dict[str, Any]:
    """What figures were measured on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _round(
    tiers: Sequence[Tier],
    reliability: Reliability,
    batch: TokenBatch,
    device: torch.device,
    task: Task,
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of every embedding, segment and head, once."""
    embed, segment, head = [], [], []
    rows, stage = len(batch.lengths), 0
    graph = task.exclusive and any(tier.in_graphs for tier in tiers)
    exit_of = partial(run_exit, reliability=reliability, in_graph=graph, task=task)
    anchor = torch.full((rows, len(tiers[0].labels)), 1.0 / len(tiers[0].labels), device=device)
    log_length = torch.zeros(rows, device=device)
    for tier in tiers:
        state, took = _timed(device, tier.embed, batch)
        embed.append(took)
        history: Past = None
        for exit in range(len(tier.depths)):
            state, took = _timed(device, tier.advance, state, exit)
            segment.append(took if tier.segment_work(exit) else 0.0)
            ask = partial(exit_of, stage=stage)
            first = anchor if stage else None
            output, took = _timed(device, ask, tier, exit, state, history, first, log_length)
            head.append(took)
            history, stage = output.history, stage + 1
    return embed, segment, head


def _hops_round(
    tiers: Sequence[Tier],
    reliability: Reliability,
    tokens: Tokens,
    shallow: Tokens,
    device: torch.device,
    task: Task,
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each exit alone, of each tier in one hop, and of each in as many as exits.

    Args:
        shallow: more rows, which exits before the first layer see; told as if they were as many.
    """
    settings = partial(
        HopSettings,
        reliability=reliability,
        device=device,
        whole=False,
        routed=False,
        in_graph=False,
        task=task,
    )
    alone, whole, parted, first = [], [], [], 0
    classes = len(tiers[0].labels)
    anchor = torch.full((len(tokens), classes), 1.0 / classes, device=device)

    def through(
        tier: Tier, hop: Hop, batch: Batch, rows: Tokens, *, bare: bool
    ) -> tuple[Batch, NDArray[np.float32]]:
        known = anchor if hop.stages[0] and not bare else None
        first = batch.anchor if batch.anchor is not None else known
        ids = rows.ids[places(rows, batch.slots)] if hop.begins else None
        given = HopInput(batch.lengths, ids, None, batch.state, batch.history, first)
        output = run_hop(tier, hop, given, settings(bare=bare, anchored=not bare))
        after = Batch(batch.slots, batch.lengths, output.state, output.exit.history, first)
        return after, on_host(output.summary)

    def in_parts(tier: Tier, hops: Sequence[Hop]) -> None:
        batch = _all(tokens)
        for hop in hops:
            batch, summary = through(tier, hop, batch, tokens, bare=False)
            if not hop.ends:  # all but one go on
                batch = batch.select(np.flatnonzero(summary[:, RELIABILITY] >= 0.0)[1:])

    for number, tier in enumerate(tiers):
        exits = tuple(range(len(tier.depths)))
        stages = tuple(first + exit for exit in exits)
        last = exits[-1]
        for exit, stage in zip(exits, stages, strict=True):
            hop = Hop(number, (exit,), (stage,), begins=True, ends=True, last=True)
            rows = tokens if tier.depths[exit] else shallow
            took = _timed(device, through, tier, hop, _all(rows), rows, bare=True)[1]
            alone.append(took * len(tokens) / len(rows))
        hop = Hop(number, exits, stages, begins=True, ends=True, last=True)
        whole.append(_timed(device, through, tier, hop, _all(tokens), tokens, bare=False)[1])
        hops = [
            Hop(number, (exit,), (stage,), begins=exit == 0, ends=exit == last, last=False)
            for exit, stage in zip(exits, stages, strict=True)
        ]
        parted.append(_timed(device, in_parts, tier, hops)[1])
        first += len(tier.depths)
    return alone, whole, parted


def _all(tokens: Tokens) -> Batch:
    """All rows, before a tier."""
    return Batch(np.arange(len(tokens)), tokens.lengths)


def _timed(
    device: torch.device, work: Callable[..., Any], *given: Any, **options: Any
) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*given, **options)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def _rows(count: int, length: int, full: Tier) -> Tokens:
    """The same as `_batch`, on the host."""
    ids = _batch(count, length, full, torch.device("cpu")).ids.int().numpy()
    starts = np.arange(count + 1) * length
    return Tokens(ids, starts, None, np.arange(count), np.zeros(count, np.bool_))


def _batch(rows: int, length: int, full: Tier, device: torch.device) -> TokenBatch:
    generator = torch.Generator().manual_seed(length)
    vocabulary = len(full.backbone.embedding_table)
    ids = torch.randint(0, vocabulary, (rows * length,), generator=generator)
    return TokenBatch(ids.to(device), np.full(rows, length))


def _known(lengths: Sequence[int], tiers: Sequence[Tier]) -> list[int]:
    """Those that the tiers can read, two at least."""
    limits = [getattr(tier.backbone, "max_length", None) for tier in tiers]
    longest = min([limit for limit in limits if limit is not None], default=1 << 30)
    found = [length for length in lengths if length <= longest]
    return found if len(found) > 1 else [max(1, longest // 2), longest]
