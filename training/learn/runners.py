"""Runners tried on a tier: prepared, opened and measured, without a recipe."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adaptive.errors import FamilyError
from adaptive.runners import RUNNERS
from adaptive.tiers.graphs import torch_threads
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.runners import lacking
from adaptive.tiers.store import load_tier
from adaptive.tiers.tier import Tier
from adaptive.training.graphs import write_graphs
from adaptive.types import TokenBatch

ROUNDS = 5
SECONDS = 60.0  # that all rounds of a tier may take, about; large tiers are run on fewer rows
ALIKE = 0.97  # of the least time: what is within it counts as as quick


def prepare(
    tier: Path, device: torch.device, scratch: Path, sample: Sequence[TokenBatch]
) -> tuple[list[str], dict[str, str]]:
    """Make ready every runner that this machine has.

    Args:
        tier: its folder.
        device: where it is to run.
        scratch: graphs are written into folders in it, one a runner.
        sample: texts that decide the steps of int8 graphs.

    Returns:
        The runners' names, in the table's order, and of the others why they are left out.
    """
    found: list[str] = []
    left_out: dict[str, str] = {}
    for name, runner in RUNNERS.items():
        why = lacking(name, device.type, preparing=True)
        if why is None and runner.graphs:
            plain = opened(tier, next(iter(RUNNERS)), device, scratch)
            texts = sample if runner.int8 else None
            try:
                write_graphs(backbone_of(plain), plain.depths, scratch / name, sample=texts)
            except FamilyError as error:
                why = str(error).partition(";")[0].partition(". Leave")[0]
        if why is None:
            found.append(name)
        else:
            left_out[name] = why
    return found, left_out


@dataclass(frozen=True, slots=True)
class Choice:
    """The quickest runner of a tier, and how it was found."""

    runner: str
    milliseconds: Mapping[str, float]  # a text in each runner that this machine has
    left_out: Mapping[str, str]  # why, of the others
    tiers: Mapping[str, Tier]  # opened in each


def choose(tier: Path, device: torch.device, scratch: Path, sample: Sequence[TokenBatch]) -> Choice:
    """Try every runner of this machine on the same batches, in turns.

    Args:
        tier, device, scratch: as of `prepare`. The graphs of what is chosen stay in `scratch`.
        sample: texts to be timed on, which decide the steps of int8 graphs too.
    """
    here, left_out = prepare(tier, device, scratch, sample)
    tiers = {runner: opened(tier, runner, device, scratch) for runner in here}
    took = milliseconds(tiers, sample, device)
    return Choice(quickest(took), took, left_out, tiers)


def opened(tier: Path, name: str, device: torch.device, scratch: Path) -> Tier:
    """A tier in a runner that is prepared.

    Raises:
        BundleError: its folder is gone, or no longer whole.
    """
    runner = RUNNERS[name]
    dtype = torch.float32 if runner.dtype is None else getattr(torch, runner.dtype)
    graphs = scratch / name if runner.graphs else False
    return load_tier(tier, device, dtype, int8=runner.int8, graphs=graphs)


@torch.inference_mode()
def milliseconds(
    tiers: Mapping[str, Tier],
    batches: Sequence[TokenBatch],
    device: torch.device,
    seconds: float = SECONDS,
) -> dict[str, float]:
    """What a text takes through all layers and heads of a tier: medians of rounds, in turns.

    Args:
        tiers: the same one in several ways.
        batches: of which as many are run as the time allows.
        seconds: that all of it may take, about.
    """
    for tier in tiers.values():
        _seconds(tier, batches[:1], device)  # warms up
    first = sum(_seconds(tier, batches[:1], device) for tier in tiers.values())
    batches = batches[: max(1, int(seconds / ROUNDS / first))]
    texts = sum(len(batch.lengths) for batch in batches)
    rounds = [[_seconds(tier, batches, device) for tier in tiers.values()] for _ in range(ROUNDS)]
    found = np.median(rounds, 0) * 1e3 / texts
    return dict(zip(tiers, found.tolist(), strict=True))


def _seconds(tier: Tier, batches: Sequence[TokenBatch], device: torch.device) -> float:
    begun = time.perf_counter()
    with torch_threads([tier])():
        for batch in batches:
            state = tier.embed(batch)
            for exit in range(len(tier.depths)):
                state = tier.advance(state, exit)
                tier.answer(state, exit)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def quickest(took: Mapping[str, float]) -> str:
    """The runner of the least time; of those about as quick, the first one of the table."""
    least = min(took.values())
    return next(name for name in RUNNERS if name in took and took[name] * ALIKE <= least)
