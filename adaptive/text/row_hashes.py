"""Hashes of token rows, by which rows that were used before are known again without their text."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adaptive.types import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Hashes = NDArray[np.uint64]
_BYTES = 8  # a million rows against a million others: one is wrongly known in 1 of 20 million tries
_LETTERS = 256


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


def hash_texts(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> Hashes:
    """A hash of each row's letters and digits, [r], the same whatever the tokenizer.

    Case, accents, punctuation and white space do not count, nor what comes behind the first 256
    letters, since tokenizers and the length that texts are cut to differ between designs.
    """
    rows = [row.tolist() for row in np.split(tokens.ids, tokens.offsets[1:-1])]
    texts = tokenizer.batch_decode(rows[: len(tokens)], skip_special_tokens=True)
    found = np.empty(len(tokens), dtype=np.uint64)
    for row, text in enumerate(texts):
        letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))
        digest = blake2b((letters[:_LETTERS] or text).encode(), digest_size=_BYTES)
        found[row] = int.from_bytes(digest.digest(), "little")
    return found


def hashes_of(parts: Sequence[Tokens]) -> Hashes:
    """The different hashes of all rows, ascending."""
    return np.unique(np.concatenate([hash_rows(part) for part in parts]))


def unseen(tokens: Tokens, seen: Hashes) -> NDArray[np.int64]:
    """Positions of the rows whose hash is none of these, ascending."""
    return np.flatnonzero(~np.isin(hash_rows(tokens), seen))
