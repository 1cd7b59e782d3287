"""Step `costs`: what each piece of the cascade takes on this device, in milliseconds a text."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm

from adaptive.config.steps import CostConfig
from adaptive.costs import MILLISECONDS, CostTable
from adaptive.exits.measures import History, measure
from adaptive.exits.reliability import Reliability
from adaptive.tiers.tier import Tier
from adaptive.training.parts import DTYPES, load_tiers
from adaptive.training.record_outcomes import load_reliability
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import TokenBatch


def _work(context: Context, folder: Path) -> Figures:
    config = context.recipe.cost
    tiers = load_tiers(context, DTYPES[config.dtype])
    reliability = load_reliability(context).to(context.device)
    table = measure_costs(tiers, reliability, config, context.device, context.quiet)
    (folder / "costs.json").write_text(json.dumps(table.to_json()), encoding="utf-8")
    return dict(table.measured)


@torch.inference_mode()
def measure_costs(
    tiers: Sequence[Tier],
    reliability: Reliability,
    config: CostConfig,
    device: torch.device,
    quiet: bool = True,
) -> CostTable:
    """Medians of `config.repeats` runs of each piece, interleaved, at each length.

    Batches are full and of one length, as the hot loop's sorted ones nearly are. The router is
    left at zero here: which one is packed is not known yet.
    """
    longest = _longest(tiers)
    lengths = [n for n in config.lengths if n <= longest]
    lengths = lengths if len(lengths) > 1 else [max(1, longest // 2), longest]
    stages = sum(len(tier.depths) for tier in tiers)
    embed = np.zeros((config.repeats, len(tiers), len(lengths)))
    segment, head = (np.zeros((config.repeats, stages, len(lengths))) for _ in range(2))
    for column, length in enumerate(tqdm(lengths, desc="costs", disable=quiet)):
        batch = _batch(config.batch_size, length, tiers[-1], device)
        for repeat in range(-1, config.repeats):  # the first round warms up
            times = _round(tiers, reliability, batch, device)
            if repeat >= 0:
                embed[repeat, :, column], segment[repeat, :, column], head[repeat, :, column] = (
                    times
                )
    scale = 1e3 / config.batch_size
    return CostTable(
        unit=MILLISECONDS,
        lengths=np.asarray(lengths, dtype=np.float64),
        embed=np.median(embed, 0) * scale,
        segment=np.median(segment, 0) * scale,
        head=np.median(head, 0) * scale,
        router=np.zeros(len(lengths)),
        measured={**machine(device), "batch_size": config.batch_size, "dtype": config.dtype},
    )


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
    anchor = torch.full((rows, len(tiers[0].labels)), 1.0 / len(tiers[0].labels), device=device)
    log_length = torch.zeros(rows, device=device)
    for tier in tiers:
        state, took = _timed(device, tier.embed, batch)
        embed.append(took)
        history = History.start(rows, device)
        for exit in range(len(tier.depths)):
            state, took = _timed(device, tier.advance, state, exit)
            segment.append(took if tier.segment_work(exit) else 0.0)
            (logits, pooled), answering = _timed(device, tier.answer, state, exit)
            (features, history), measuring = _timed(
                device,
                measure,
                reliability.temper(stage, logits),
                pooled,
                history,
                anchor,
                log_length,
            )
            _, judging = _timed(device, reliability, stage, features)
            head.append(answering + measuring + judging)
            stage += 1
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


def load_costs(context: Context) -> CostTable:
    """The measured table."""
    file = context.folder("costs") / "costs.json"
    return CostTable.from_json(json.loads(file.read_text(encoding="utf-8")))


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("costs", (*tiers, "outcomes"), section("cost"), _work)
