"""Router features are what a loop over each text alone would compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adaptive.routers.features import (
    SCALARS,
    STATISTICS,
    log_frequencies,
    router_features,
    token_statistics,
)
from adaptive.types import Tokens


def rows(*ids: list[int]) -> Tokens:
    lengths = [len(row) for row in ids]
    return Tokens(
        ids=np.array([token for row in ids for token in row], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        types=None,
        owner=np.arange(len(ids)),
        truncated=np.zeros(len(ids), bool),
    )


def test_log_frequencies_are_add_one_smoothed_shares() -> None:
    found = log_frequencies(rows([1, 1, 3], [1]), 5)
    np.testing.assert_allclose(np.exp(found), np.array([1, 4, 1, 2, 1]) / 9, rtol=1e-6)


def test_statistics_of_each_row() -> None:
    frequency = np.array([-1.0, -2.0, -4.0, -8.0])
    found = token_statistics(rows([0, 1, 3], [2], [3, 3]), frequency)
    expected = [
        [math.log(3), -11 / 3, -8, np.std([-1, -2, -8]), 1 / 3],
        [0, -4, -4, 0, 0],
        [math.log(2), -8, -8, 0, 1],
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_statistics_of_a_row_do_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 50, size).tolist() for size in rng.integers(1, 30, 40)]
    frequency = log_frequencies(rows(*texts[:20]), 50)
    together = token_statistics(rows(*texts), frequency)
    alone = np.concatenate([token_statistics(rows(text), frequency) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_no_rows_give_no_statistics_and_an_empty_row_is_named() -> None:
    assert token_statistics(rows(), np.zeros(3)).shape == (0, len(STATISTICS))
    with pytest.raises(ValueError, match="row 1 has no tokens"):
        token_statistics(rows([1], [], [2]), np.zeros(3))


def test_ids_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match="token id 7 in a vocabulary of 5"):
        token_statistics(rows([7]), np.zeros(5))
    with pytest.raises(ValueError, match="token id 7 in a vocabulary of 5"):
        log_frequencies(rows([7]), 5)


def test_features_hold_the_embedding_then_the_scalars() -> None:
    pooled = torch.tensor([[5.0, 6.0, 7.0]], dtype=torch.bfloat16)
    probabilities = torch.tensor([[0.8, 0.2]])
    statistics = torch.arange(len(STATISTICS)).float().unsqueeze(0)
    features = router_features(pooled, probabilities, statistics)
    assert features.shape == (1, 3 + len(SCALARS))
    assert features.dtype == torch.float32
    named = dict(zip(SCALARS, features[0, 3:].tolist(), strict=True))
    assert features[0, :3].tolist() == [5, 6, 7]
    assert named["margin"] == pytest.approx(0.6)
    assert named["log_odds"] == pytest.approx(math.log(4), abs=1e-5)
    assert named["unseen_share"] == len(STATISTICS) - 1


def test_features_are_finite_for_a_certain_answer() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0]])
    features = router_features(torch.zeros(1, 2), certain, torch.zeros(1, len(STATISTICS)))
    assert features.isfinite().all()
