"""What rules decide by: every stage's answers and measures on a build's held-out rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from adaptive.costs import CostTable
from adaptive.types import OutcomeTable, Stage, StageCosts
from adaptive.worth import classified, concatenate, worse_of

Floats = NDArray[np.float64]
NAMES = ("top", "raw_top", "margin", "entropy", "energy", "streak", "saturation", "routing")


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows with everything that a rule may read; k stages."""

    table: OutcomeTable
    top: Floats  # [n, k] largest probability, tempered
    raw_top: Floats  # [n, k] the same without a temperature
    margin: Floats  # [n, k] the largest less the second
    entropy: Floats  # [n, k] as a share of the greatest possible
    energy: Floats  # [n, k] log sum exp of the raw logits: high = familiar
    streak: Floats  # [n, k] exits in a row that agree, in their tier
    saturation: Floats  # [n, k] cosine with the state at the exit before
    pooled: list[NDArray[np.float16]]  # k times [n, h]
    routing: NDArray[np.float32]  # [n, F] what a router reads

    def take(self, rows: NDArray[np.integer]) -> Measured:
        """The given rows."""
        names = ["top", "raw_top", "margin", "entropy", "energy", "streak", "saturation", "routing"]
        own = {name: getattr(self, name)[rows] for name in names}
        pooled = [each[rows] for each in self.pooled]
        return replace(self, table=self.table.take(rows), pooled=pooled, **own)


@dataclass(frozen=True, slots=True)
class Build:
    """A finished build: rows to fit on, rows to deal, and costs."""

    fit: Measured
    pool: Measured
    costs: CostTable
    sizes: dict[str, int]  # rows that the build searched and certified on


def load(work: Path, stages_file: Path, splits: tuple[str, ...]) -> Build:
    """A build's rows, from its folder and what `record_stages.py` wrote of it."""
    arrays = np.load(stages_file)
    temperature = load_file(work / "bundle" / "reliability.safetensors")["temperature"]
    fit, *rest = [_split(work, arrays, split, temperature) for split in ("fit", *splits)]
    costs = CostTable.from_json(json.loads((work / "bundle" / "costs.json").read_text()))
    sizes = {name: len(part.table) for name, part in zip(splits, rest, strict=True)}
    return Build(fit, _joined(rest), costs, sizes)


def _split(work: Path, arrays: np.lib.npyio.NpzFile, split: str, temperature: Floats) -> Measured:
    known = len(arrays[f"{split}.labels"])  # the first ones, where not all were recorded
    outcomes = load_file(work / "outcomes" / f"{split}.safetensors")
    outcomes = {name: each[:known] for name, each in outcomes.items()}
    places = json.loads((work / "outcomes" / "stages.json").read_text())
    stages = tuple(Stage(*each) for each in places)
    k = len(stages)
    logits = [arrays[f"{split}.logits.{j}"].astype(np.float64) for j in range(k)]
    pooled = [arrays[f"{split}.pooled.{j}"] for j in range(k)]
    predictions = np.stack([each.argmax(1) for each in logits], 1).astype(np.int32)
    same = float((predictions == outcomes["predictions"]).mean())
    assert same > 0.999, f"{split}: only {same:.2%} of the answers are those recorded before"
    table = classified(
        stages,
        predictions,
        outcomes["reliability"],
        outcomes["risk"],
        outcomes["labels"],
        outcomes["tokens"],
        in_float32=outcomes.get("reference", outcomes.get("unquantised")),
    )
    tempered = [each / temperature[j] for j, each in enumerate(logits)]
    shares = [_softmax(each) for each in tempered]
    best = [np.partition(each, -2, axis=1)[:, -2:] for each in shares]
    classes = logits[0].shape[1]
    streak, saturation = np.zeros((len(table), k)), np.zeros((len(table), k))
    for j, stage in enumerate(stages):
        if stage.exit:
            agrees = predictions[:, j] == predictions[:, j - 1]
            streak[:, j] = (streak[:, j - 1] + 1) * agrees
            a, b = pooled[j].astype(np.float64), pooled[j - 1].astype(np.float64)
            size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            saturation[:, j] = (a * b).sum(1) / np.maximum(size, 1e-9)
    return Measured(
        table=table,
        top=np.stack([each[:, 1] for each in best], 1),
        raw_top=np.stack([_softmax(each).max(1) for each in logits], 1),
        margin=np.stack([each[:, 1] - each[:, 0] for each in best], 1),
        entropy=np.stack([-(s * np.log(s + 1e-300)).sum(1) for s in shares], 1) / np.log(classes),
        energy=np.stack([_log_sum(each) for each in logits], 1),
        streak=streak,
        saturation=saturation,
        pooled=pooled,
        routing=load_file(work / "outcomes" / f"{split}.routing.safetensors")["features"][:known],
    )


def _softmax(logits: Floats) -> Floats:
    found = np.exp(logits - logits.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def _log_sum(logits: Floats) -> Floats:
    most = logits.max(1)
    return most + np.log(np.exp(logits - most[:, None]).sum(1))


def _joined(parts: list[Measured]) -> Measured:
    names = ["top", "raw_top", "margin", "entropy", "energy", "streak", "saturation", "routing"]
    own = {name: np.concatenate([getattr(each, name) for each in parts]) for name in names}
    stages = range(len(parts[0].pooled))
    pooled = [np.concatenate([each.pooled[j] for each in parts]) for j in stages]
    return Measured(table=concatenate([each.table for each in parts]), pooled=pooled, **own)


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


def risk_by(kind: str, fit: Measured, pool: Measured, seed: int = 0) -> NDArray[np.float32]:
    """A router's risk of each tier on the pool, [n, m], fitted on the rows to fit on."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    worse = worse_of(fit.table)
    risk = np.zeros((len(pool.table), worse.shape[1]), np.float32)
    for tier in range(worse.shape[1] - 1):
        if worse[:, tier].all() or not worse[:, tier].any():
            risk[:, tier] = worse[0, tier]
            continue
        near = min(50, len(worse) // 10)
        model = LogisticRegression(C=0.01, max_iter=500)
        own = model if kind == "logistic" else KNeighborsClassifier(near)
        known = make_pipeline(StandardScaler(), own).fit(fit.routing, worse[:, tier])
        risk[:, tier] = known.predict_proba(pool.routing)[:, 1]
    return risk
