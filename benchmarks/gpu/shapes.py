"""Stages about shapes: the full tier alone against others, early exits, and utilisation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import runtime_cases
import torch
from gpu.bench import LARGE, Bench
from gpu.models import Row, ours
from gpu.results import BASELINES
from gpu.speed import clocked, matmul_peak, measure, total_work
from gpu.stages import Work
from gpu.subjects import CLINC

LARGE_BATCHES = (512, 32, 1)
UNCOMPILED = ("eager", "graphs")
LENGTHS = (128, 256)  # of rows whose utilisation is measured
COMPILED = (CLINC, "bert_base")


def full_only(bench: Bench) -> Iterator[tuple[str, Work]]:
    """Ours without exits against eager, compiled and graphs."""
    for batch in bench.batches:
        for name in COMPILED:
            yield f"{name}, batch {batch}", partial(lines, bench, name, batch)


def patterns(bench: Bench) -> Iterator[tuple[str, Work]]:
    """Time saved over work saved, where given shares of the texts leave early."""
    for batch in bench.batches:
        for name in ("bert_base", "minilm"):
            work = partial(lines, bench, name, batch, baselines=(), policies=PATTERNS, seconds=3.0)
            yield f"{name}, batch {batch}", work


def large(bench: Bench) -> Iterator[tuple[str, Work]]:
    """The full tier alone, of a larger shape, which takes long to compile."""
    first, *others = bench.batches if bench.small else LARGE_BATCHES
    for batch in (first, *others):
        work = partial(lines, bench, LARGE, batch, baselines=UNCOMPILED)
        yield f"{LARGE}, batch {batch}, not compiled", work
    yield f"{LARGE}, batch {first}", partial(lines, bench, LARGE, first)


def mfu(bench: Bench) -> Iterator[tuple[str, Work]]:
    """Utilisation where rows are long and many, against products of several sizes."""
    yield "peak", partial(peaks, bench)
    for name in ("bert_base", LARGE, "minilm"):
        for length in LENGTHS:
            yield f"{name}, rows of {length}", partial(utilisation, bench, name, length)


PATTERNS = tuple(runtime_cases.PATTERNS)


def lines(
    bench: Bench,
    name: str,
    batch: int,
    *,
    baselines: tuple[str, ...] = BASELINES,
    policies: tuple[str, ...] = (),
    seconds: float = 4.0,
) -> dict[str, Any]:
    """What `measure` says of one subject at one batch size."""
    found = measure(
        bench.subject(name),
        batch,
        bench.peak,
        baselines=baselines,
        policies=policies,
        seconds=0.0 if bench.small else seconds,
    )
    return {"lines": found}


def peaks(bench: Bench) -> dict[str, Any]:
    """TFLOP/s of square products."""
    squares = (128, 256) if bench.small else (2048, 4096, 8192, 16384)
    kind = getattr(torch, bench.dtype)
    return {
        str(square): round(matmul_peak(bench.device, kind, square) / 1e12, 2) for square in squares
    }


def utilisation(bench: Bench, name: str, length: int) -> dict[str, Any]:
    """FLOP/s of the full tier alone over the peak, with attention's own products and without."""
    subject = bench.subject(name)
    count = 8 if bench.small else 512
    rng = np.random.default_rng(length)
    table = subject.bundle.tiers[-1].backbone.embedding_table
    rows: list[Row] = list(rng.integers(4, len(table), (count, length), dtype=np.int32))
    serve = ours(subject.bundle, subject.alone)
    times = []
    for _ in range(8):
        times.append(clocked(serve, rows, count)[1])
    seconds = float(np.median(times[3:]))
    matrices = 2 * total_work(subject.bundle, subject.alone, rows, count)
    config = subject.bundle.tiers[-1].backbone.config
    attention = 4.0 * config.hidden_size * config.num_hidden_layers * count * length**2
    return {
        "rows": count,
        "tokens": count * length,
        "milliseconds": round(1e3 * seconds, 3),
        "teraflops": round((matrices + attention) / seconds / 1e12, 2),
        "utilisation": round((matrices + attention) / seconds / bench.peak, 4),
        "utilisation_of_matrices": round(matrices / seconds / bench.peak, 4),
    }


def compile_ahead(bench: Bench, name: str) -> None:
    """Fill the compiler's cache on the disk with what `full_only` compiles of a subject."""
    subject = bench.subject(name)
    serve = subject.shop.make("compiled")
    serve(subject.rows[:1], 1)
    serve(subject.rows[:48], 16)
