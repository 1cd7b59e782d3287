"""The carried cascade on this device: costs, certificate, and its time against full-only."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gpu.bench import Bench
from gpu.results import POLICY
from gpu.speed import measure
from gpu.stages import Work
from gpu.subjects import CLINC, Subject

from adaptive.bundle.contents import Bundle
from adaptive.certifying.recertify import recertify
from adaptive.engine import answer
from adaptive.policy.costs import CostTable
from adaptive.text import tokens as token_rows
from adaptive.types import Tokens

BATCH = 512  # whose costs are certified for
COMMAND_SECONDS = 60.0


def pieces(bench: Bench) -> Iterator[tuple[str, Work]]:
    """Certification first: the policy that it picks is the one that is timed."""
    yield "certify", partial(certify, bench)
    yield "accuracy", partial(accuracy, bench)
    for batch in bench.batches:
        yield f"batch {batch}", partial(timings, bench, batch)


def command_line(bench: Bench) -> Iterator[tuple[str, Work]]:
    """The same as a user does it."""
    yield "certify", partial(command, bench)


def certify(bench: Bench) -> dict[str, Any]:
    """Costs measured and the front tested, here and now; as `adaptive certify` does it."""
    subject = bench.subject(CLINC)
    texts, labels = bench.texts("certify")
    rows = tokens_of(subject.bundle, texts)
    bundle = recertify(subject.bundle, rows, labels, subject.bundle.targets, batch_size=BATCH)
    if bundle.policy != subject.alone:
        bench.notes[CLINC] = replace(subject, bundle=bundle, policies={POLICY: bundle.policy})
    found = bundle.certificate
    assert found is not None
    chosen = next(each for each in found.front if each.policy == bundle.policy)
    return {
        "verdict": found.verdict,
        "headline": found.headline,
        "rows_needed": found.rows_needed,
        "n": found.n,
        "certified": found.certified,
        "front": len(found.front),
        "unit": found.unit,
        "cost": chosen.cost,
        "cost_full_alone": found.front[0].cost,
        "front_costs": [round(each.cost, 6) for each in found.front],
        "p_values": [float(f"{each.p_value:.3g}") for each in found.front],
        "path": [bundle.tiers[tier].name for tier in bundle.policy.path],
        "thresholds": [round(each, 4) for each in bundle.policy.thresholds],
        "costs": None if bundle.costs is None else costs_at(bundle.costs, rows.lengths.mean()),
    }


def costs_at(costs: CostTable, length: float) -> dict[str, Any]:
    """What each piece costs a text of a length."""
    at = costs.at(np.array([round(float(length))]))
    rounded = {
        name: [round(value, 6) for value in getattr(at, name)[0].tolist()]
        for name in ("embed", "segment", "head")
    }
    return {"unit": costs.unit, "tokens": round(float(length)), **rounded, **costs.measured}


def certified(bench: Bench) -> Subject:
    """The cascade under its certified policy, else under the one it came with.

    The full tier alone, which stands in where no other is certified, is timed anyway.
    """
    found: Subject = bench.notes.get(CLINC) or bench.subject(CLINC)
    return found


def accuracy(bench: Bench) -> dict[str, Any]:
    """Of the policy and of the full tier alone on the test rows, and who answers."""
    subject = certified(bench)
    texts, labels = bench.texts("test")
    rows = tokens_of(subject.bundle, texts)
    found = answer(subject.bundle, rows, subject.policies[POLICY], BATCH, whole=False)
    full = answer(subject.bundle, rows, subject.alone, BATCH, whole=False)
    right, full_right = (float((each.label == labels).mean()) for each in (found, full))
    shares = np.bincount(found.stage, minlength=len(subject.bundle.stages)) / len(texts)
    names = [f"{subject.bundle.tiers[s.tier].name}@{s.depth}" for s in subject.bundle.stages]
    return {
        "texts": len(texts),
        "policy": round(right, 4),
        "full": round(full_right, 4),
        "kept": round(right / full_right, 4),
        "stage_shares": {
            name: round(float(share), 4) for name, share in zip(names, shares, strict=True) if share
        },
    }


def timings(bench: Bench, batch: int) -> dict[str, Any]:
    """The policy against every way to run the full tier, on test texts; of one, single calls."""
    subject = certified(bench)
    lines = measure(subject, batch, bench.peak, policies=(POLICY,))
    return {"tested": CLINC in bench.notes, "lines": lines}


def command(bench: Bench) -> dict[str, Any]:
    """`adaptive certify` itself, on a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(bench.bundle, copy)
        words = [str(copy), str(bench.folder / "certify.csv")]
        options = ["--device", str(bench.device), "--dtype", bench.dtype]
        done = subprocess.run(
            [sys.executable, "-m", "adaptive.cli", "--json", "certify", *words, *options],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode:
            return {"error": f"exit status {done.returncode}", "told": done.stderr[-1500:]}
        told: dict[str, Any] = json.loads(done.stdout)
        told.pop("result", None)  # a path of this machine
        return told


def tokens_of(bundle: Bundle, texts: list[str]) -> Tokens:
    """Token rows of texts, cut to the bundle's length."""
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
