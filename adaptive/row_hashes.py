"""Hashes of token rows, by which rows that were used before are known again without their text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from adaptive.types import Tokens

Hashes = NDArray[np.uint64]
_BYTES = 8  # a million rows against a million others: one is wrongly known in 1 of 20 million tries


def hash_rows(tokens: Tokens) -> Hashes:
    """A hash of each row's tokens and segments, [r]. Texts cut to the same tokens are the same."""
    found = np.empty(len(tokens), dtype=np.uint64)
    pairs = tokens.types is not None and tokens.types.any()
    for row, (start, stop) in enumerate(itertools.pairwise(tokens.offsets.tolist())):
        digest = blake2b(tokens.ids[start:stop].astype("<i4").tobytes(), digest_size=_BYTES)
        if pairs and tokens.types is not None and tokens.types[start:stop].any():
            digest.update(tokens.types[start:stop].astype("<i1").tobytes())
        found[row] = int.from_bytes(digest.digest(), "little")
    return found


def hashes_of(parts: Sequence[Tokens]) -> Hashes:
    """The different hashes of all rows, ascending."""
    return np.unique(np.concatenate([hash_rows(part) for part in parts]))


def unseen(tokens: Tokens, seen: Hashes) -> NDArray[np.int64]:
    """Positions of the rows whose hash is none of these, ascending."""
    return np.flatnonzero(~np.isin(hash_rows(tokens), seen))
