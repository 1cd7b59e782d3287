"""What rules decide by: a build's held-out rows, every stage's measures on them, and costs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from measures import Floats, measured
from numpy.typing import NDArray
from safetensors.numpy import load_file

from adaptive.policy.costs import CostTable
from adaptive.policy.worth import classified, concatenate
from adaptive.types import OutcomeTable, Stage, StageCosts


@dataclass(frozen=True, slots=True)
class Build:
    """Held-out rows of a finished build that served neither training nor fitting, and costs."""

    table: OutcomeTable  # of the rows that are dealt
    fit: OutcomeTable  # of those that routers were fitted on
    scores: dict[str, Floats]  # [n, k] by measure: the higher, the surer
    risks: dict[str, NDArray[np.float32]]  # [n, m] by router; `after` is [n, m x m]
    features: dict[str, tuple[Floats, Floats]]  # of the rows to fit and to deal, by their kind
    costs: CostTable
    sizes: dict[str, int]  # rows that the build searched and certified on


def load(work: Path, stages_file: Path, splits: tuple[str, ...]) -> Build:
    """A build's rows, from its folder and what `record_stages.py` wrote of it.

    Measures are computed once, and lie beside the recorded file.
    """
    arrays = np.load(stages_file)
    sizes = {split: len(arrays[f"{split}.labels"]) for split in ("fit", *splits)}
    tables = {split: _table(work, split, size) for split, size in sizes.items()}
    beside = stages_file.with_suffix(".measures.npz")
    if not beside.is_file():
        temperature = load_file(work / "bundle" / "reliability.safetensors")["temperature"]
        bag = {
            split: load_file(work / "outcomes" / f"{split}.routing.safetensors")["features"][:size]
            for split, size in sizes.items()
        }
        part = beside.with_suffix(".part.npz")
        np.savez(part, **measured(arrays, tables, temperature, bag))
        part.rename(beside)
    kept = dict(np.load(beside))

    def of(kind: str) -> dict[str, NDArray[np.float32]]:
        return {
            name.removeprefix(f"{kind}."): each
            for name, each in kept.items()
            if name.startswith(f"{kind}.")
        }

    seen = of("features")
    return Build(
        concatenate([tables[split] for split in splits]),
        tables["fit"],
        {name: each.astype(np.float64) for name, each in of("score").items()},
        of("risk"),
        {name: (seen[f"{name}.fit"], seen[f"{name}.pool"]) for name in ("bag", "teacher")},
        CostTable.from_json(json.loads((work / "bundle" / "costs.json").read_text())),
        {split: sizes[split] for split in splits},
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


def dearer(table: OutcomeTable, costs: StageCosts, factor: float) -> StageCosts:
    """Costs of a cascade whose full tier takes so many times longer, and answers the same."""
    own = [k for k, stage in enumerate(table.stages) if stage.tier == table.stages[-1].tier]
    segment, head, embed = costs.segment.copy(), costs.head.copy(), costs.embed.copy()
    segment[:, own] *= factor
    head[:, own] *= factor
    embed[:, -1] *= factor
    return replace(costs, segment=segment, head=head, embed=embed)
