"""Runners, threads and batch sizes measured on this machine, for each tier of a bundle.

Nothing is written: a bundle that is served otherwise than it was certified has to be certified
anew, and `advice` says how.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adaptive.bundle.contents import Bundle
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.store import load_bundle
from adaptive.runners import PLAIN, RUNNERS, named
from adaptive.tiers.tier import Tier
from adaptive.training.learn.runners import milliseconds, opened, prepare, quickest
from adaptive.types import TokenBatch

SECONDS = 60.0  # of measuring, about; opening and exporting come on top
BATCH_SIZES = (1, 8, 32)
LENGTH = 24  # tokens of a row, where the bundle tells of none


@dataclass(frozen=True, slots=True)
class Line:
    """One tier in one runner, with so many threads, in batches of one size."""

    tier: str
    runner: str
    threads: int
    batch_size: int
    milliseconds: float  # a text, through all layers and exits
    served: bool  # the bundle's own runner


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured."""

    lines: tuple[Line, ...]
    left_out: dict[str, str]  # runner -> why it was not measured
    tokens: int  # of a row

    def best(self, batch_size: int) -> dict[str, tuple[str, int]]:
        """Tier -> the quickest runner and its threads, in batches of one size."""
        found: dict[str, tuple[str, int]] = {}
        for tier in dict.fromkeys(line.tier for line in self.lines):
            own = [x for x in self.lines if (x.tier, x.batch_size) == (tier, batch_size)]
            threads = min(own, key=lambda line: line.milliseconds).threads
            took = {line.runner: line.milliseconds for line in own if line.threads == threads}
            found[tier] = (quickest(took), threads)
        return found


def tune(
    folder: Path,
    *,
    threads: Sequence[int],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float | None = None,
) -> Tuning:
    """Measure every runner that this machine has on a CPU, on rows of the bundle's median length.

    Args:
        folder: the bundle's.
        threads: numbers of threads to try.
        batch_sizes: rows of a batch.
        seconds: that measuring may take, about; None for `SECONDS`.

    Raises:
        BundleError: the bundle is damaged, foreign or unsafe.
    """
    bundle, cpu = load_bundle(folder, uncertified=True), torch.device("cpu")
    tiers = [tier for tier in bundle.tiers if tier.backbone.layers]
    tokens = _median_tokens(bundle)
    each = (SECONDS if seconds is None else seconds) / max(
        1, len(tiers) * len(threads) * len(batch_sizes)
    )
    lines: list[Line] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as made, _threads_kept():
        for tier in tiers:
            where, scratch = folder / LAYOUT.tier(tier.name), Path(made) / tier.name
            here, lacking = prepare(where, cpu, scratch, _batches(bundle, 8, tokens))
            left_out |= lacking
            for count in threads:
                torch.set_num_threads(count)  # sessions take as many when they are opened
                ways = {name: opened(where, name, cpu, scratch) for name in here}
                for size in batch_sizes:
                    took = milliseconds(ways, _batches(bundle, size, tokens), cpu, each)
                    lines += [
                        Line(tier.name, name, count, size, took[name], name == served_by(tier))
                        for name in here
                    ]
    return Tuning(tuple(lines), left_out, tokens)


def served_by(tier: Tier) -> str:
    """The runner that a loaded tier is served by, on a CPU."""
    dtype = str(tier.backbone.embedding_table.dtype).removeprefix("torch.")
    alike = [name for name, each in RUNNERS.items() if each.dtype == dtype]
    return alike[0] if alike else named(int8=tier.int8, graphs=tier.in_graphs)


def advice(tuning: Tuning, batch_size: int) -> str:
    """What to do with the figures."""
    served = {line.tier: line.runner for line in tuning.lines if line.served}
    better = {
        tier: runner
        for tier, (runner, _) in tuning.best(batch_size).items()
        if runner != served.get(tier, PLAIN)
    }
    if not better:
        return (
            f"In batches of {batch_size} every tier is served by the quickest runner, or one about "
            "as quick. Where threads or batches differ from the certificate's, promises in "
            "milliseconds are taken anew by `adaptive certify BUNDLE DATA`."
        )
    told = ", ".join(f"serve: {runner} for {tier}" for tier, runner in better.items())
    return (
        f"In batches of {batch_size} quicker: {told}. `adaptive certify BUNDLE DATA "
        "--choose-runners` puts them into the bundle and certifies it anew, on labelled rows that "
        "served for nothing else. A bundle that is served otherwise than it was certified is "
        "refused."
    )


def _median_tokens(bundle: Bundle) -> int:
    """Tokens of a text in the middle, of those whose outcomes the bundle keeps."""
    found = [table.tokens for table in bundle.outcomes.values() if len(table)]
    return int(np.median(np.concatenate(found))) if found else min(LENGTH, bundle.max_length)


def _batches(bundle: Bundle, size: int, tokens: int) -> list[TokenBatch]:
    """Full batches of rows of one length; which tokens they have makes no difference."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = len(bundle.tiers[-1].backbone.embedding_table)
    count = max(1, 64 // size)
    ids = torch.randint(0, vocabulary, (count, size * tokens), generator=generator)
    return [TokenBatch(row, np.full(size, tokens)) for row in ids]


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
