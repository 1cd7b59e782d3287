"""Step `quantise`: what serving tiers in int8 does to their answers and their time.

The weights stay as they are, and are rounded anew wherever a tier is loaded; so this step
writes figures alone, and those who read from it know that tiers are in int8.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.errors import BuildError
from adaptive.tiers.tier import Tier
from adaptive.training.parts import TIERS, load_built, tier_steps
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import Tokens

ROWS = 2048  # rows of the fit split that are run at most
BATCH = 32


def _work(context: Context, folder: Path) -> Figures:
    if context.device.type != "cpu":
        raise BuildError(
            f"quantise.tiers: int8 runs on a CPU, and this build on {context.device.type}; build "
            "with CUDA_VISIBLE_DEVICES= or leave `quantise` out"
        )
    tokens, labels = load_rows(context.folder("data") / "fit.safetensors")
    some = token_rows.select(tokens, np.arange(min(ROWS, len(tokens))))
    steps = {TIERS.get(step, step): step for step in tier_steps(context)}
    return {
        name: _compare(context, steps[name], some, labels[: len(some)])
        for name in context.recipe.quantise.tiers
    }


def _compare(
    context: Context, step: str, tokens: Tokens, labels: NDArray[np.int32]
) -> dict[str, Any]:
    """Every exit's answers in int8 and in float32, and how much faster int8 is."""
    plain, small = (load_built(context, step, int8=int8) for int8 in (False, True))
    before, slow = _run(plain, tokens)
    after, quick = _run(small, tokens)
    known = bool((labels >= 0).all())
    truth = torch.from_numpy(labels)
    exits = [
        {
            "depth": depth,
            "accuracy_float32": _share(was == truth) if known else None,
            "accuracy": _share(now == truth) if known else None,
            "agreement": _share(was == now),
        }
        for depth, was, now in zip(plain.depths, before, after, strict=True)
    ]
    return {"exits": exits, "rows": len(tokens), "time_ratio": slow / quick}


@torch.inference_mode()
def _run(tier: Tier, tokens: Tokens) -> tuple[torch.Tensor, float]:
    """What each exit answers to each row, [exits, n], and the seconds it took."""
    found = torch.zeros(len(tier.depths), len(tokens), dtype=torch.int64)
    batches = list(token_rows.batches(tokens.lengths, BATCH))
    seconds = 0.0
    for number, rows in enumerate([batches[0], *batches]):
        begun = time.perf_counter()
        state = tier.embed(token_rows.pack(tokens, rows, torch.device("cpu")))
        for exit in range(len(tier.depths)):
            state = tier.advance(state, exit)
            found[exit, rows] = tier.answer(state, exit)[0].argmax(1)
        if number:  # the first batch warms up
            seconds += time.perf_counter() - begun
    return found, seconds


def _share(kept: torch.Tensor) -> float:
    return float(kept.double().mean())


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("quantise", ("data", *tiers), section("quantise"), _work)
