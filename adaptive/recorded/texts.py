"""Features of a prompt: words by TF-IDF, reduced by a truncated SVD, and its shape.

Words are hashed, so that what is stored of the prompts is two arrays of numbers and no word.

References:
    Weinberger et al. (2009), feature hashing for large scale multitask learning, arXiv:0902.2206.
    Deerwester et al. (1990), indexing by latent semantic analysis, JASIS 41(6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Encoder = Callable[[Sequence[str]], NDArray[np.floating]]  # texts to [n, w], such as a bag's
BUCKETS = 2**14  # that words are hashed into
WIDTH = 64  # of what is kept of them
SHAPE = 7  # features that no word decides


@dataclass(frozen=True, slots=True)
class Texts:
    """How a prompt becomes numbers."""

    idf: NDArray[np.float32]  # [buckets] inverse document frequency
    directions: NDArray[np.float32]  # [width, buckets]

    def __call__(self, prompts: Sequence[str]) -> Floats:
        """Features of prompts, [n, width + SHAPE]."""
        words = _weighted(_counted(prompts), self.idf)
        reduced = np.asarray(words @ self.directions.T.astype(np.float64))
        return np.hstack([reduced, shape_of(prompts)])


def fit_texts(prompts: Sequence[str], seed: int = 0, width: int = WIDTH) -> Texts:
    """Learn idf and directions from prompts; of few prompts, as many directions as they bear."""
    from sklearn.decomposition import TruncatedSVD

    counts = _counted(prompts)
    present = np.bincount(counts.indices, minlength=BUCKETS)
    idf = np.log((1.0 + len(prompts)) / (1.0 + present)) + 1.0
    idf[present < 2] = 0.0  # a word of one prompt tells nothing of others
    weighted = _weighted(counts, idf.astype(np.float32))
    width = max(2, min(width, len(prompts) // 8, int((idf > 0.0).sum()) - 1))
    if not (idf > 0.0).any():
        return Texts(idf.astype(np.float32), np.zeros((width, BUCKETS), np.float32))
    reduced = TruncatedSVD(width, random_state=seed).fit(weighted)
    return Texts(idf.astype(np.float32), reduced.components_.astype(np.float32))


def _counted(prompts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=BUCKETS, alternate_sign=False, norm=None)
    return hashing.transform(prompts)


def _weighted(counts: Any, idf: NDArray[np.float32]) -> Any:
    """Rows of unit length: (1 + log count) x idf."""
    from sklearn.preprocessing import normalize

    found = counts.astype(np.float64)
    found.data = (1.0 + np.log(found.data)) * idf[found.indices]
    return normalize(found, copy=False)


def shape_of(prompts: Sequence[str]) -> Floats:
    """Length, lines, and shares of kinds of signs, [n, SHAPE]."""
    rows = [
        (
            np.log1p(len(text)),
            np.log1p(text.count("\n")),
            np.log1p(len(text.split())),
            sum(map(str.isdigit, text)) / max(len(text), 1),
            sum(map(str.isupper, text)) / max(len(text), 1),
            sum(text.count(sign) for sign in "\\$^_={}") / max(len(text), 1),
            np.log1p(text.count("?")),
        )
        for text in prompts
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), SHAPE)
