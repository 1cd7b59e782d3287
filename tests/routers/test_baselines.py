"""Baselines enter where they say."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.routers.baselines import always_tier, at_random, by_length, oracle


def test_always_enters_one_tier() -> None:
    assert always_tier(3, 1).tolist() == [1, 1, 1]


def test_longer_texts_enter_higher() -> None:
    assert by_length(np.array([1, 10, 11, 99]), [10, 50]).tolist() == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="ascend"):
        by_length(np.array([1]), [50, 10])


def test_random_entry_keeps_its_shares_and_its_seed() -> None:
    entry = at_random(20000, [0.5, 0.3, 0.2], seed=0)
    np.testing.assert_allclose(np.bincount(entry) / 20000, [0.5, 0.3, 0.2], atol=0.015)
    assert np.array_equal(entry, at_random(20000, [0.5, 0.3, 0.2], seed=0))
    assert not np.array_equal(entry, at_random(20000, [0.5, 0.3, 0.2], seed=1))
    with pytest.raises(ValueError, match="add up to 1"):
        at_random(5, [0.5, 0.4], seed=0)


def test_the_oracle_enters_the_cheapest_good_tier() -> None:
    costs = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [5.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    good = np.array([[1, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=bool)
    assert oracle(costs, good).tolist() == [0, 2, 1, 0]
    with pytest.raises(ValueError, match=r"\(4, 3\) and good \(4, 2\)"):
        oracle(costs, good[:, :2])
