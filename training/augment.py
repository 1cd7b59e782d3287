"""Made-up texts for students to learn from: pieces of training texts, cut and joined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptive.types import Tokens

LEAST, MOST = 0.4, 0.9  # share of a text that a piece keeps
JOINED = 0.5  # share of the made-up texts that are two pieces


def augment(
    tokens: Tokens, copies: int, special: frozenset[int], max_length: int, seed: int
) -> Tokens:
    """For each row `copies` new ones: a random piece of it, often joined with one of another.

    They have no label: the teacher's answer is what students learn from them, and it need not be
    sure (data augmentation for distillation, as TinyBERT does by replacing words: Jiao et al.
    2020, arXiv:1909.10351, section 3.2). Special tokens at a row's ends stay where they are.

    Args:
        tokens: n rows of single texts.
        special: ids that begin and end rows.
        max_length: tokens of a new row at most.

    Returns:
        copies x n rows.
    """
    rng = np.random.default_rng(seed)
    rows = np.split(tokens.ids, tokens.offsets[1:-1]) if len(tokens) else []
    parts = [_ends(row, special) for row in rows]
    made = []
    for _ in range(copies):
        for start, inner, end in parts:
            room = max_length - len(start) - len(end)
            piece = _piece(inner, rng)
            if rng.random() < JOINED:
                piece = np.concatenate([piece, _piece(parts[rng.integers(len(parts))][1], rng)])
            made.append(np.concatenate([start, piece[:room], end]))
    lengths = np.array([len(row) for row in made], dtype=np.int64)
    return Tokens(
        ids=np.concatenate([np.zeros(0, np.int32), *made]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        types=None if tokens.types is None else np.zeros(lengths.sum(), np.int8),
        owner=np.arange(len(made), dtype=np.int64),
        truncated=np.zeros(len(made), np.bool_),
    )


def _ends(
    row: NDArray[np.int32], special: frozenset[int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """A row as its leading special tokens, its text, and its trailing ones."""
    text = np.flatnonzero([token not in special for token in row.tolist()])
    if not len(text):
        return row, row[:0], row[:0]
    return row[: text[0]], row[text[0] : text[-1] + 1], row[text[-1] + 1 :]


def _piece(text: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    if not len(text):
        return text
    size = max(1, round(len(text) * rng.uniform(LEAST, MOST)))
    start = rng.integers(len(text) - size + 1)
    return text[start : start + size]
