"""Every stage's logits and hidden states on a build's held-out rows, for the bench of rules.

    python benchmarks/rules/record_stages.py WORK OUT.npz [--splits fit search] [--most 6000]

WORK is a build's folder, with its bundle in WORK/bundle. An outcome table keeps what our own policy
needs of a stage, its answer and its reliability. Other rules read probabilities or hidden states,
so each split is run once more here. The file is large, and is kept outside the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from adaptive.bundle.store import load_bundle
from adaptive.measure.recording import run_tier
from adaptive.text import tokens as token_rows
from adaptive.training.rows import load_rows

SPLITS = ("fit", "search", "certify", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--splits", nargs="*", default=SPLITS)
    parser.add_argument("--most", type=int, default=10**9, help="rows of a split at most")
    given = parser.parse_args()
    bundle = load_bundle(given.work / "bundle", device=torch.device("cpu"))
    found: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for split in given.splits:
            tokens, labels = load_rows(given.work / "data" / f"{split}.safetensors")
            rows = np.arange(min(len(labels), given.most))
            tokens, labels, stage = token_rows.select(tokens, rows), labels[rows], 0
            for tier in bundle.tiers:
                for logits, pooled in run_tier(tier, tokens, 32):
                    found[f"{split}.logits.{stage}"] = logits.numpy().astype(np.float32)
                    found[f"{split}.pooled.{stage}"] = pooled.numpy().astype(np.float16)
                    stage += 1
                print(split, tier.name, flush=True)
            found[f"{split}.labels"], found[f"{split}.tokens"] = labels, tokens.lengths
    np.savez(given.out, **found)


if __name__ == "__main__":
    main()
