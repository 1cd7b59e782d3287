"""What rules decide by: every stage's answers and measures on a build's held-out rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptive.costs import CostTable
from adaptive.types import OutcomeTable, Stage, StageCosts
from adaptive.worth import classified, concatenate, worse_of

Floats = NDArray[np.float64]
MEASURES = (
    "tempered",
    "probability",
    "margin",
    "certainty",
    "energy",
    "streak",
    "saturation",
)


@dataclass(frozen=True, slots=True)
class Build:
    """Held-out rows of a finished build that served neither training nor fitting, and costs."""

    table: OutcomeTable  # of the rows that are dealt
    scores: dict[str, Floats]  # [n, k] by measure: the higher, the surer
    risks: dict[str, NDArray[np.float32]]  # [n, m] by router, fitted on the build's fit rows
    costs: CostTable
    sizes: dict[str, int]  # rows that the build searched and certified on


def load(work: Path, stages_file: Path, splits: tuple[str, ...]) -> Build:
    """A build's rows, from its folder and what `record_stages.py` wrote of it.

    Measures are computed once, and lie beside the recorded file.
    """
    beside = stages_file.with_suffix(".measures.npz")
    if not beside.is_file():
        found = measures(work, np.load(stages_file), splits)
        part = beside.with_suffix(".part.npz")
        np.savez(part, **found)
        part.rename(beside)
    kept = dict(np.load(beside))
    sizes = {name: int(kept.pop(f"size.{name}")) for name in splits}
    tables = [_table(work, split, sizes[split]) for split in splits]
    return Build(
        concatenate(tables),
        {name.removeprefix("score."): v for name, v in kept.items() if name.startswith("score.")},
        {name.removeprefix("risk."): v for name, v in kept.items() if name.startswith("risk.")},
        CostTable.from_json(json.loads((work / "bundle" / "costs.json").read_text())),
        sizes,
    )


def _table(work: Path, split: str, size: int) -> OutcomeTable:
    """The first rows of a split, as many as were recorded."""
    arrays = load_file(work / "outcomes" / f"{split}.safetensors")
    arrays = {name: each[:size] for name, each in arrays.items()}
    places = json.loads((work / "outcomes" / "stages.json").read_text())
    columns = ("predictions", "reliability", "risk", "labels", "tokens")
    table = classified(
        tuple(Stage(*each) for each in places),
        **{name: arrays[name] for name in columns},
        in_float32=arrays.get("reference", arrays.get("unquantised")),
    )
    return replace(table, risk=np.zeros_like(table.risk))


def measures(work: Path, arrays: Any, splits: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Every measure of every stage, of all rows to deal, and routers' risks."""
    temperature = load_file(work / "bundle" / "reliability.safetensors")["temperature"]
    sizes = {split: len(arrays[f"{split}.labels"]) for split in ("fit", *splits)}
    fit = _table(work, "fit", sizes["fit"])
    parts = [_measured(arrays, _table(work, s, sizes[s]), s, temperature) for s in splits]
    found = {f"score.{name}": np.concatenate([each[name] for each in parts]) for name in parts[0]}
    found["score.learned"] = _learned(arrays, fit, splits)
    seen = {
        split: load_file(work / "outcomes" / f"{split}.routing.safetensors")["features"][:size]
        for split, size in sizes.items()
    }
    pool = np.concatenate([seen[split] for split in splits])
    for kind in ("logistic", "knn"):
        found[f"risk.{kind}"] = _risk(kind, seen["fit"], worse_of(fit), pool)
    return found | {f"size.{split}": np.array(size) for split, size in sizes.items()}


def _measured(
    arrays: Any, table: OutcomeTable, split: str, temperature: NDArray[Any]
) -> dict[str, Floats]:
    stages, size = table.stages, len(table)
    found = {name: np.zeros((size, len(stages))) for name in MEASURES}
    before: Floats | None = None
    for k, stage in enumerate(stages):
        logits = arrays[f"{split}.logits.{k}"].astype(np.float64)
        state = arrays[f"{split}.pooled.{k}"].astype(np.float64)
        same = float((logits.argmax(1) == table.predictions[:, k]).mean())
        assert same > 0.999, f"{split}: only {same:.2%} of the answers are those recorded before"
        shares = _softmax(logits / float(temperature[k]))
        best = np.partition(shares, -2, axis=1)[:, -2:]
        found["tempered"][:, k] = best[:, 1]
        found["probability"][:, k] = _softmax(logits).max(1)
        found["margin"][:, k] = best[:, 1] - best[:, 0]
        found["certainty"][:, k] = (shares * np.log(shares + 1e-300)).sum(1)  # less the entropy
        found["energy"][:, k] = logits.max(1) + np.log(
            np.exp(logits - logits.max(1, keepdims=True)).sum(1)
        )
        if stage.exit and before is not None:
            agrees = table.predictions[:, k] == table.predictions[:, k - 1]
            found["streak"][:, k] = (found["streak"][:, k - 1] + 1) * agrees
            norms = np.linalg.norm(state, axis=1) * np.linalg.norm(before, axis=1)
            found["saturation"][:, k] = (state * before).sum(1) / np.maximum(norms, 1e-9)
        before = state
    return found


def _softmax(logits: Floats) -> Floats:
    found = np.exp(logits - logits.max(1, keepdims=True))
    shares: Floats = found / found.sum(1, keepdims=True)
    return shares


def _learned(arrays: Any, fit: OutcomeTable, splits: tuple[str, ...]) -> Floats:
    """A linear layer on the hidden state, one for all exits of a tier, fitted to right or wrong."""
    columns = []
    for tier in sorted({s.tier for s in fit.stages}):
        own = [k for k, s in enumerate(fit.stages) if s.tier == tier]
        states = np.concatenate([arrays[f"fit.pooled.{k}"] for k in own]).astype(np.float32)
        mean, scale = states.mean(0), states.std(0) + 1e-6
        right = np.concatenate([fit.worth.score[:, k] for k in own]) > 0.5
        model = LogisticRegression(C=1e-3, max_iter=200).fit((states - mean) / scale, right)
        for k in own:
            seen = np.concatenate([arrays[f"{split}.pooled.{k}"] for split in splits])
            columns.append(model.predict_proba((seen.astype(np.float32) - mean) / scale)[:, 1])
    return np.stack(columns, 1)


def _risk(
    kind: str, fitted: NDArray[Any], worse: NDArray[np.bool_], pool: NDArray[Any]
) -> NDArray[np.float32]:
    """A router's risk of each tier on the pool, [n, m]."""
    risk = np.zeros((len(pool), worse.shape[1]), np.float32)
    for tier, outcome in enumerate(worse.T[:-1]):
        if outcome.all() or not outcome.any():
            risk[:, tier] = outcome[0]
            continue
        near = KNeighborsClassifier(min(50, len(worse) // 10))
        model = LogisticRegression(C=0.01, max_iter=500) if kind == "logistic" else near
        known = make_pipeline(StandardScaler(), model).fit(fitted, outcome)
        risk[:, tier] = known.predict_proba(pool)[:, 1]
    return risk


def without(
    table: OutcomeTable, costs: StageCosts, dropped: set[int]
) -> tuple[OutcomeTable, StageCosts]:
    """A cascade that lacks some stages: their layers belong to the next exit of their tier.

    A tier that loses all of its stages is gone.
    """
    kept = [k for k in range(len(table.stages)) if k not in dropped]
    tiers = sorted({table.stages[k].tier for k in kept})
    segment = costs.segment.copy()
    for k in sorted(dropped):
        if k + 1 < len(table.stages) and table.stages[k + 1].tier == table.stages[k].tier:
            segment[:, k + 1] += segment[:, k]
    stages, count = [], dict.fromkeys(tiers, 0)
    for k in kept:
        old = table.stages[k]
        stages.append(Stage(tiers.index(old.tier), count[old.tier], old.depth))
        count[old.tier] += 1
    less = classified(
        tuple(stages),
        table.predictions[:, kept],
        table.reliability[:, kept],
        table.risk[:, tiers],
        table.labels,
        table.tokens,
        in_float32=table.reference,
    )
    return less, replace(
        costs, embed=costs.embed[:, tiers], segment=segment[:, kept], head=costs.head[:, kept]
    )
