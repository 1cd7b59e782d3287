"""The tiny cascade with labelled search rows, and texts whose labels a test can give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.measure.recording import outcomes
from adaptive.policy.worth import reclassified
from adaptive.text import tokens as token_rows
from adaptive.types import NEVER, OutcomeTable, Policy, Tokens


def texts_of(rows: int, seed: int) -> list[str]:
    """So many different texts."""
    return list(dict.fromkeys(tiny_texts(rows + 60, seed)))[:rows]


def tokens_of(bundle: Bundle, texts: list[str]) -> Tokens:
    """Their rows."""
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)


def truth(table: OutcomeTable, seed: int) -> NDArray[np.int32]:
    """Labels [n] that make the full tier right on most rows."""
    rng = np.random.default_rng(seed)
    other = rng.integers(0, 3, len(table))
    return np.where(rng.random(len(table)) < 0.8, table.reference, other).astype(np.int32)


def searched(bundle: Bundle, rows: int = 300) -> Bundle:
    """The bundle with labelled search rows and a line of policies."""
    unknown = np.full(rows, -1, np.int32)
    search = outcomes(bundle, tokens_of(bundle, texts_of(rows, 2)), unknown, 32)
    family = []
    for share in (0.98, 0.95, 0.9, 0.8, 0.7, 0.6):
        levels = tuple(np.quantile(search.reliability, share, axis=0).tolist())
        family += [Policy((0, 1, 2), levels), Policy((2,), (*[NEVER] * 4, *levels[4:]))]
    ladder = tuple(LadderEntry(str(index), each) for index, each in enumerate(family))
    search = reclassified(search, labels=truth(search, 1))
    return replace(bundle, outcomes={"search": search}, ladder=ladder)


def pool(bundle: Bundle, rows: int = 400) -> tuple[list[str], dict[str, str]]:
    """Texts, and the label of each by its text."""
    texts = texts_of(rows, 3)
    table = outcomes(bundle, tokens_of(bundle, texts), np.full(rows, -1, np.int32), 32)
    names = (bundle.labels[label] for label in truth(table, 5))
    return texts, dict(zip(texts, names, strict=True))
