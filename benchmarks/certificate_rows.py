"""Rows that the certificate's benchmark keeps apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.bundle.contents import Bundle
from adaptive.config import Recipe
from adaptive.training.data import Dataset
from adaptive.training.prepare import load_splits
from adaptive.training.splits import PARTS, fold
from adaptive.types import Tokens


def distinct(data: Dataset) -> Dataset:
    """The data with each text once in train.

    Where train rows are held out, one copy of a text could be learnt from and another be
    certified on.
    """
    seen: set[str] = set()
    kept = []
    for row, text in enumerate(map(fold, data.texts)):
        train = data.split is not None and data.split[row] == "train"
        if not (train and text in seen):
            kept.append(row)
        if train:
            seen.add(text)
    return data.take(np.array(kept, dtype=np.int64))


def unused(recipe: Recipe, data: Dataset, bundle: Bundle) -> tuple[Tokens, NDArray[np.int32]]:
    """Held-out rows that the recipe's sizes leave over, each text once, and their labels.

    They are drawn at random with those of fit, search and certify, hence exchangeable with them,
    if train has no size of its own: else what train leaves over were among them.
    """
    splits = load_splits(recipe, data)[1]
    used = np.concatenate([getattr(splits, part) for part in PARTS])
    known = {fold(data.texts[row]) for row in used}
    left: dict[str, int] = {}
    for row in np.setdiff1d(np.arange(len(data)), used).tolist():
        text = fold(data.texts[row])
        if text not in known:
            left.setdefault(text, row)
    rows = list(left.values())
    texts = [data.texts[row] for row in rows]
    tokens = token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    assert data.labels is not None
    return tokens, data.labels[rows]
