"""The betting test: valid at the boundary, blind to the future, tied to one order of rows."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from adaptive.risk import betting, binomial, hoeffding_bentkus, row_order
from adaptive.risk.betting import CAP, _bets
from adaptive.risk.p_values import Floats

DRAWS, ROWS, DELTA = 2_000, 1_000, 0.05
ERROR = DELTA + 3.0 * math.sqrt(DELTA * (1.0 - DELTA) / DRAWS)

# Values, their shares and the level, which is their mean; the bounds are the least and greatest.
AT_THE_LEVEL = {
    "drop of an accurate model": ([0.99, -1.0, -0.01, 0.0], [0.0115, 0.002, 0.9385, 0.048], 0.0),
    "drop, many disagreements": ([0.98, -1.0, -0.02, 0.0], [0.0637, 0.047, 0.7713, 0.118], 0.0),
    "agreement": ([0.99, -0.01], [0.01, 0.99], 0.0),
    "rare and great": ([1.0, 0.0], [0.002, 0.998], 0.002),
    "even": ([0.0, 0.25, 0.5, 0.75, 1.0], [0.2] * 5, 0.5),
    "mostly lost": ([1.0, 0.0], [0.97, 0.03], 0.97),
}


def _draw(case: str, seed: int, draws: int = DRAWS, rows: int = ROWS) -> Floats:
    values, shares, _ = AT_THE_LEVEL[case]
    return np.random.default_rng(seed).choice(values, (draws, rows), p=shares)


@pytest.mark.parametrize("case", AT_THE_LEVEL)
def test_at_the_level_itself_errors_stay_under_delta(case: str) -> None:
    values, shares, level = AT_THE_LEVEL[case]
    assert np.dot(values, shares) == pytest.approx(level, abs=1e-12)
    p = betting(_draw(case, 0), level, low=min(values), high=max(values), seed=1)
    for delta in (0.01, DELTA, 0.2):
        assert (p <= delta).mean() <= delta + 3.0 * math.sqrt(delta * (1.0 - delta) / DRAWS)


def test_the_bets_size_does_not_touch_validity() -> None:
    losses = _draw("agreement", 1)
    for delta in (1e-6, 0.9):
        p = betting(losses, 0.0, low=-0.01, high=0.99, seed=1, delta=delta)
        assert (p <= DELTA).mean() <= ERROR


def test_p_value_is_what_the_definition_says() -> None:
    rng = np.random.default_rng(2)
    losses, level, low, high, delta = rng.uniform(-1.0, 0.4, 60), 0.1, -1.0, 0.5, 0.05
    x = ((losses - low) / (high - low))[row_order(60, 7)]
    m = (level - low) / (high - low)
    capital, best = 1.0, 1.0
    mean, spread, variance = 0.5, 0.25, 0.25
    for t, loss in enumerate(x, start=1):
        bet = min(math.sqrt(2.0 * math.log(1.0 / delta) / (60 * variance)), CAP / (1.0 - m))
        capital *= 1.0 - bet * (loss - m)
        best = max(best, capital)
        mean = (0.5 + x[:t].sum()) / (t + 1)
        spread += (loss - mean) ** 2
        variance = spread / (t + 1)
    p = float(betting(losses, level, low=low, high=high, seed=7, delta=delta))
    assert p == pytest.approx(1.0 / best, rel=1e-9)
    assert p < 1.0


def test_bets_do_not_see_the_row_they_are_placed_on() -> None:
    losses = np.random.default_rng(3).random(100)
    bets = _bets(losses, 0.6, DELTA)
    for row in (0, 1, 50, 99):
        changed = losses.copy()
        changed[row:] = 1.0 - changed[row:]
        other = _bets(changed, 0.6, DELTA)
        np.testing.assert_array_equal(other[: row + 1], bets[: row + 1])
        assert row == 99 or (other[row + 1 :] != bets[row + 1 :]).any()


@pytest.mark.parametrize("rows", [20_000, 200_000])
def test_no_overflow_where_evidence_is_overwhelming(rows: int) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert float(betting(np.full(rows, -1.0), 0.0, low=-1.0, high=0.99, seed=0)) < 1e-100
        assert float(betting(np.full(rows, 0.99), 0.0, low=-1.0, high=0.99, seed=0)) == 1.0


def test_credit_counts() -> None:
    rng = np.random.default_rng(4)
    losses = rng.choice([1.0, -1.0, 0.0], 4_000, p=[0.03, 0.03, 0.94])
    assert float(betting(losses, 0.01, low=-1.0, seed=0)) < 0.05
    assert float(binomial(losses.clip(0.0), 0.01)) > 0.99


def test_sharper_than_hoeffding_bentkus_where_losses_vary_little() -> None:
    losses = 0.05 + 0.02 * np.random.default_rng(5).random((200, 300))
    ours = betting(losses, 0.08, seed=0)
    assert (ours < 0.1 * hoeffding_bentkus(losses, 0.08)).all()


def test_does_not_care_for_the_unit() -> None:
    losses = np.random.default_rng(6).random(300) * 0.6
    moved = betting(4.0 * losses - 1.0, 0.6, low=-1.0, high=3.0, seed=0)
    assert float(moved) == pytest.approx(float(betting(losses, 0.4, seed=0)), rel=1e-6)


def test_one_seed_is_one_result_and_the_order_matters() -> None:
    losses = _draw("even", 7, 1)[0]
    test = partial(betting, losses, 0.55)
    assert float(test(seed=3)) == float(test(seed=3))
    assert len({float(test(seed=seed)) for seed in range(10)}) > 1


def test_rows_sorted_by_loss_gain_nothing() -> None:
    # Left as they come, all good rows first would carry the capital up before the first loss.
    losses = np.sort(_draw("agreement", 8), axis=1)
    p = betting(losses, 0.0, low=-0.01, high=0.99, seed=0)
    assert (p <= DELTA).mean() <= ERROR


def test_the_least_p_value_of_many_orders_is_none() -> None:
    losses = _draw("agreement", 9, 500)
    test = partial(betting, losses, 0.0, low=-0.01, high=0.99)
    least = np.min([test(seed=seed) for seed in range(20)], axis=0)
    assert (least <= DELTA).mean() > ERROR + 0.02


def test_the_order_is_a_permutation_recorded_for_all_time() -> None:
    assert row_order(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert sorted(row_order(1_000, 5)) == list(range(1_000))
    assert row_order(0, 0).tolist() == []
    assert row_order(50, 1).tolist() != row_order(50, 2).tolist()


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_must_be_a_chance(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        betting([0.0], 0.1, seed=0, delta=delta)
