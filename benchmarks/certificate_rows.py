"""Rows that the certificate's benchmark keeps apart, and what every stage answers to them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.config import Recipe
from adaptive.measure.recording import ROWS, record, tabulate
from adaptive.policy.worth import concatenate
from adaptive.text import tokens as token_rows
from adaptive.training.data import Dataset
from adaptive.training.prepare import load_splits
from adaptive.training.rows import load_rows
from adaptive.training.smooth import chances, expected_drop, fit_pool
from adaptive.training.splits import PARTS, fold
from adaptive.types import OutcomeTable, Tokens

Floats = NDArray[np.float64]
Labelled = tuple[Tokens, NDArray[np.int32]]
BATCH = 32
HELD_OUT = Path(__file__).parent / "recipes" / "certificate" / "held_out.json"


def held_out(name: str, data: Dataset) -> Dataset:
    """The data with other rows held out: some that no certification had seen when they were drawn.

    Rows that an earlier recipe had certified or searched on may be trained on. Those held out were
    drawn at random from all others.

    Args:
        name: of the data set, as in held_out.json.
        data: all its rows, train before validation before test.

    Raises:
        ValueError: the data have another number of rows.
    """
    told = json.loads(HELD_OUT.read_text(encoding="utf-8"))[name]
    if len(data) != told["rows"] or data.split is None:
        raise ValueError(f"{name}: expected {told['rows']:,} rows, found {len(data):,}")
    bits = np.unpackbits(np.frombuffer(base64.b64decode(told["bits"]), dtype=np.uint8))
    chosen = bits[: len(data)].astype(np.bool_)
    given = np.where(data.split == "test", "test", "train")
    return replace(data, split=np.where(chosen, "validation", given))


def unused(recipe: Recipe, data: Dataset, bundle: Bundle) -> Labelled:
    """Held-out rows that the recipe's sizes leave over, as they come, and their labels.

    All rows were divided at random, so these are exchangeable with the ones certified on, those
    that a size of train leaves over too. As of certify's rows, none has a text that stands in
    train, fit or search; texts may repeat.
    """
    splits = load_splits(recipe, data)[1]
    known = {fold(data.texts[row]) for part in PARTS[:3] for row in getattr(splits, part)}
    rows = [row for row in splits.unused.tolist() if fold(data.texts[row]) not in known]
    texts = [data.texts[row] for row in rows]
    tokens = token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    assert data.labels is not None
    return tokens, data.labels[rows]


@dataclass(frozen=True, slots=True)
class Pool:
    """Rows that may be dealt anew, and the fit rows that the search smoothes losses by."""

    table: OutcomeTable
    fit: OutcomeTable | None = None
    chance: tuple[Floats, ...] = ()  # that each stage is right: fit rows [f, k], the pool's [n, k]

    def drop(self, rows: NDArray[np.int64]) -> Floats | None:
        """What each stage is expected to lose on some of the rows, as a build's search has it."""
        if self.fit is None:
            return None
        fit, own = self.chance
        return expected_drop([self.fit, self.table.take(rows)], [fit, own[rows]], 1)


def pool_of(bundle: Bundle, work: Path, judged: Labelled) -> Pool:
    """The rows that a build searched and certified on, and those it is judged on."""
    fit, *own = (load_rows(work / "data" / f"{name}.safetensors") for name in PARTS[1:4])
    recorded = record(bundle.tiers, fit[0], BATCH)
    weights = fit_pool([recorded], bundle.reliability, fit[1])
    first, *rest = (_answered(bundle, part, weights) for part in (fit, *own, judged))
    chance = np.concatenate([chance for _, chance in rest])
    return Pool(concatenate([table for table, _ in rest]), first[0], (first[1], chance))


def _answered(bundle: Bundle, part: Labelled, weights: torch.Tensor) -> tuple[OutcomeTable, Floats]:
    """Outcomes, and the chance that each is right, recorded in pieces."""
    tokens, labels = part
    tables: list[OutcomeTable] = []
    found: list[Floats] = []
    for start in range(0, len(tokens), ROWS):
        rows = np.arange(start, min(start + ROWS, len(tokens)))
        piece = record(bundle.tiers, token_rows.select(tokens, rows), BATCH)
        scores, frequency = bundle.reliability, bundle.log_frequency
        tables.append(tabulate(piece, scores, labels[rows], bundle.router, frequency))
        found.append(chances(piece, scores, weights))
    return concatenate(tables), np.concatenate(found)
