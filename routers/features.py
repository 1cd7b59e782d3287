"""What a router sees of a text: the anchor's embedding and answer, and token statistics.

All of it is at hand once the anchor has run, or comes from the token ids alone.
Letters as in `adaptive.types`: r rows, t tokens, b batch, h hidden size, c classes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.types import Tokens

CONFIDENCE: tuple[str, ...] = ("max_probability", "margin", "entropy", "log_odds")
STATISTICS: tuple[str, ...] = (
    "log_length",
    "mean_log_frequency",
    "min_log_frequency",
    "spread_log_frequency",
    "unseen_share",
)
SCALARS: tuple[str, ...] = CONFIDENCE + STATISTICS  # they follow the embedding, in this order

_LEAST_ODDS = 1e-6  # probabilities are held this far from 0 and 1 before their log odds


def log_frequencies(tokens: Tokens, vocabulary_size: int) -> NDArray[np.float32]:
    """Natural logarithm of each token's share of `tokens`, add-one smoothed, [vocabulary].

    Raises:
        ValueError: an id at or above the vocabulary's size.
    """
    _check_ids(tokens, vocabulary_size)
    counts = np.bincount(tokens.ids, minlength=vocabulary_size) + 1.0
    shares: NDArray[np.float64] = counts / counts.sum()
    return np.log(shares).astype(np.float32)


def token_statistics(tokens: Tokens, log_frequency: NDArray[np.floating]) -> NDArray[np.float32]:
    """The `STATISTICS` of each row, [r, 5] float32.

    Args:
        tokens: rows of at least one token each.
        log_frequency: [vocabulary] of `log_frequencies`. A token is unseen where it has the
            smallest value of all, which add-one smoothing gives to what never occurred.

    Raises:
        ValueError: a row without tokens, or an id at or above the vocabulary's size.
    """
    rows = len(tokens)
    if not rows:
        return np.zeros((0, len(STATISTICS)), dtype=np.float32)
    lengths = tokens.lengths
    if not lengths.all():
        raise ValueError(f"row {int(np.argmin(lengths))} has no tokens")
    _check_ids(tokens, len(log_frequency))
    starts = tokens.offsets[:-1]
    frequency = np.asarray(log_frequency, dtype=np.float64)[tokens.ids]
    mean = np.add.reduceat(frequency, starts) / lengths
    spread = np.add.reduceat((frequency - np.repeat(mean, lengths)) ** 2, starts) / lengths
    unseen = (frequency <= float(np.min(log_frequency))).astype(np.float64)
    columns = [
        np.log(lengths),
        mean,
        np.minimum.reduceat(frequency, starts),
        np.sqrt(spread),
        np.add.reduceat(unseen, starts) / lengths,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def router_features(
    anchor_pooled: torch.Tensor, anchor_probabilities: torch.Tensor, statistics: torch.Tensor
) -> torch.Tensor:
    """Features [b, h + 9] float32: the anchor's pooled embedding, then the `SCALARS`.

    Args:
        anchor_pooled: [b, h] what the anchor's head read.
        anchor_probabilities: [b, c] what it answered, tempered; c >= 2.
        statistics: [b, 5] of `token_statistics`, on the same device.
    """
    probabilities = anchor_probabilities.float()
    top = probabilities.topk(2, dim=1).values
    scalars = [
        top[:, 0],
        top[:, 0] - top[:, 1],
        torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1]),
        torch.logit(top[:, 0], eps=_LEAST_ODDS),
    ]
    confidence = torch.stack(scalars, dim=1)
    return torch.cat([anchor_pooled.float(), confidence, statistics.float()], dim=1)


def _check_ids(tokens: Tokens, vocabulary_size: int) -> None:
    if len(tokens.ids) and int(tokens.ids.max()) >= vocabulary_size:
        raise ValueError(
            f"token id {int(tokens.ids.max())} in a vocabulary of {vocabulary_size}: the "
            "tokens come from another tokenizer"
        )
