"""What exit heads of other shapes know, by depth, on the frozen states of finished full tiers.

    python benchmarks/heads.py --work FOLDER [--only clinc150] [--record FILE]

FOLDER holds finished builds, NAME/full, NAME/teacher and NAME/data. Heads of each shape are trained
on the same recorded states for the same optimiser steps, from labels and the full tier's answers as
a build trains them, and judged on the search rows. Shapes:

linear          LayerNorm and a linear layer
hidden          a hidden layer as wide as the states before it, as by default
two layers      linear, on the pooled states of this depth and the one before
all layers      linear, on those of every depth so far
both            a hidden layer, on those of every depth so far
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch
from torch import nn

from adaptive.cells import Labels
from adaptive.exits.heads import ExitHead
from adaptive.text import tokens as token_rows
from adaptive.tiers.store import load_tier
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import share_right
from adaptive.training.learn.distill import distillation
from adaptive.training.learn.exits import SOFT, TEMPERATURE
from adaptive.training.learn.loop import Options, Rows, fit
from adaptive.training.learn.teacher import ByRow, outputs_of, read_outputs
from adaptive.training.rows import load_rows

SHAPES = {  # depths that a head reads, and whether it has a hidden layer
    "linear": (1, False),
    "hidden": (1, True),
    "two layers": (2, False),
    "all layers": (99, False),
    "both": (99, True),
}
STEPS = 1_700
BATCH = 64
MOST = 2_500  # search rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["clinc150", "ag_news", "sst2"])
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "tiers.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.only:
        found = measure(given.work / name, given.seed)
        record = records.read(given.record)
        records.write(given.record, record | {"heads": record.get("heads", {}) | {name: found}})
        print(json.dumps({name: found}))


def measure(work: Path, seed: int) -> dict[str, Any]:
    """Right answers in per cent by depth, of each shape, and what training it took."""
    tier = load_tier(work / "full" / "tier").eval()
    tokens, labels = load_rows(work / "teacher" / "rows.safetensors")
    said, states = read_outputs(work / "teacher")
    search, wanted = load_rows(work / "data" / "search.safetensors")
    rows = np.arange(min(len(search), MOST))
    full, here = outputs_of(tier, token_rows.select(search, rows))
    learnt, wanted = torch.from_numpy(labels), wanted[: len(rows)]
    epochs = max(1, round(STEPS * BATCH / len(tokens)))
    found: dict[str, Any] = {
        "rows": {"train": len(tokens), "search": len(rows)},
        "full": right(full, wanted),
        "shapes": {},
    }
    for name, (depths, hidden) in SHAPES.items():
        torch.manual_seed(seed)
        heads = Heads(tier, depths, hidden)

        def loss(batch: Rows, heads: Heads = heads) -> torch.Tensor:
            each = (
                distillation(logits, learnt[batch], said[batch], SOFT, TEMPERATURE)
                for logits in heads(states, batch)
            )
            return torch.stack(list(each)).sum()

        begun = time.process_time()
        fit(heads, loss, tokens.lengths, Options("heads", epochs, BATCH, 1e-3, seed=seed))
        taken = time.process_time() - begun
        with torch.no_grad():
            accuracy = [right(logits, wanted) for logits in heads(here, rows)]
        found["shapes"][name] = {"accuracy": accuracy, "cpu_seconds": round(taken)}
    return found


class Heads(nn.Module):
    """A head for every depth before the last; each reads the states of so many depths."""

    def __init__(self, tier: Tier, depths: int, hidden: bool) -> None:
        super().__init__()
        size, self.depths = tier.backbone.hidden, depths
        self.heads = nn.ModuleList(
            ExitHead(size * min(depths, depth + 1), len(tier.labels), size if hidden else None)
            for depth in range(tier.backbone.layers)
        )

    def forward(self, states: Sequence[ByRow], rows: Rows) -> list[torch.Tensor]:
        """Logits [b, c] of each head."""
        read = [states[depth][rows].float() for depth in range(len(self.heads))]
        return [
            head(torch.cat(read[max(0, depth + 1 - self.depths) : depth + 1], 1))
            for depth, head in enumerate(self.heads)
        ]


def right(logits: torch.Tensor, labels: Labels) -> float:
    """Right answers in per cent."""
    return round(100.0 * share_right(logits.float().argmax(1).numpy(), labels), 1)


if __name__ == "__main__":
    main()
