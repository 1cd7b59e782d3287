"""P-values from sums: exact binomial, Hoeffding-Bentkus, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy import stats

from adaptive.risk import betting, binomial, clipped, hoeffding_bentkus
from adaptive.risk.p_values import Floats

Test = Callable[[Floats, float], Floats]
TESTS: dict[str, Test] = {
    "binomial": binomial,
    "hoeffding_bentkus": hoeffding_bentkus,
    "betting": partial(betting, seed=0),
}
each_test = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS.keys())


def _losses(wrong: int, rows: int) -> Floats:
    losses = np.zeros(rows)
    losses[:wrong] = 1.0
    return losses


@pytest.mark.parametrize(("wrong", "rows", "level"), [(0, 50, 0.1), (3, 200, 0.05), (40, 90, 0.3)])
def test_binomial_is_scipys_exact_test(wrong: int, rows: int, level: float) -> None:
    exact = stats.binomtest(wrong, rows, level, alternative="less").pvalue
    assert float(binomial(_losses(wrong, rows), level)) == pytest.approx(exact, rel=1e-9)


def test_hoeffding_bentkus_agrees_with_mapie() -> None:
    rng = np.random.default_rng(0)
    losses = rng.beta(0.3, 4.0, (12, 300)) * np.linspace(0.2, 2.0, 12)[:, None].clip(max=1.0)
    levels = [0.02, 0.05, 0.2]
    theirs = compute_hoeffding_bentkus_p_value(losses.mean(1), 300, levels)
    ours = np.stack([hoeffding_bentkus(losses, level) for level in levels], 1)
    np.testing.assert_allclose(ours, theirs.clip(max=1.0), rtol=1e-9)
    assert (ours < 1.0).any() and (ours == 1.0).any()


def test_binomial_and_the_binary_case_agree_with_mapie() -> None:
    # There the smaller of Hoeffding's and the exact one: the exact one, wherever it decides.
    # 512 rows: MAPIE counts losses as ceil(n * mean), and 7 / 400 * 400 is a little over 7.
    wrong = np.arange(12)
    theirs = compute_hoeffding_bentkus_p_value(wrong / 512.0, 512, [0.05], binary=True)[:, 0]
    ours = binomial(np.stack([_losses(k, 512) for k in wrong]), 0.05)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_hoeffding_bentkus_does_not_care_for_the_unit() -> None:
    losses = np.random.default_rng(1).random(200) * 0.5
    plain = hoeffding_bentkus(losses, 0.4)
    moved = hoeffding_bentkus(4.0 * losses - 1.0, 0.6, low=-1.0, high=3.0)
    assert float(moved) == pytest.approx(float(plain), rel=1e-6)


@each_test
def test_no_rows_prove_nothing(test: Test) -> None:
    assert test(np.zeros(0), 0.1) == 1.0
    np.testing.assert_array_equal(test(np.zeros((3, 0)), 0.1), np.ones(3))


@each_test
def test_level_zero_can_never_be_certified(test: Test) -> None:
    assert test(np.zeros(10_000), 0.0) == 1.0


@each_test
def test_all_zero_is_the_best_and_all_one_the_worst(test: Test) -> None:
    best, worst = float(test(np.zeros(500), 0.05)), float(test(np.ones(500), 0.05))
    assert worst == 1.0
    # No valid test can go below the chance of 500 rows without a loss at the level itself.
    assert 0.95**500 * (1 - 1e-9) <= best < 1e-6


@each_test
def test_shape_is_that_of_the_leading_axes(test: Test) -> None:
    losses = (np.random.default_rng(2).random((4, 3, 200)) < 0.03).astype(float)
    p = test(losses, 0.1)
    assert p.shape == (4, 3)
    assert float(p[2, 1]) == pytest.approx(float(test(losses[2, 1], 0.1)), rel=1e-12)
    assert ((p >= 0.0) & (p <= 1.0)).all()


@each_test
def test_more_losses_or_a_lower_level_never_help(test: Test) -> None:
    rng = np.random.default_rng(3)
    order = rng.permutation(300)
    losses = np.stack([(order < k).astype(float) for k in (0, 2, 5, 10, 20, 40)])
    p = test(losses, 0.08)
    assert (np.diff(p) >= -1e-15).all()
    by_level = np.array([float(test(losses[2], level)) for level in (0.01, 0.03, 0.06, 0.1, 0.3)])
    assert (np.diff(by_level) <= 0.0).all()


@each_test
@pytest.mark.parametrize("level", [-0.1, 1.0, 1.5, math.nan])
def test_a_level_without_meaning_is_refused(test: Test, level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        test(np.zeros(5), level)


@each_test
@pytest.mark.parametrize("bad", [1.2, -0.5, math.nan, math.inf])
def test_losses_outside_their_bounds_are_refused(test: Test, bad: float) -> None:
    with pytest.raises(ValueError, match="losses"):
        test(np.array([0.0, bad, 1.0]), 0.1)


def test_binomial_refuses_losses_between_zero_and_one() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        binomial([0.0, 0.5], 0.1)


def test_a_single_number_is_no_list_of_rows() -> None:
    with pytest.raises(ValueError, match="axis"):
        binomial(0.0, 0.1)


@each_test
@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_at_the_level_itself_errors_stay_under_delta(test: Test, level: float) -> None:
    losses = (np.random.default_rng(4).random((2_000, 1_000)) < level).astype(float)
    p = test(losses, level)
    for delta in (0.01, 0.05, 0.1):
        assert (p <= delta).mean() <= delta + 3.0 * math.sqrt(delta * (1.0 - delta) / 2_000)


def test_the_observed_mean_alone_errs_every_other_time() -> None:
    # Conformal risk control's rule, which bounds the expected risk and no more.
    losses = (np.random.default_rng(5).random((2_000, 1_000)) < 0.05).astype(float)
    rule = (losses.sum(1) + 1.0) / 1_001 <= 0.05
    assert rule.mean() > 0.35
    assert (binomial(losses, 0.05) <= 0.05).mean() < 0.065


def test_clipped_losses_give_a_greater_p_value() -> None:
    losses = np.random.default_rng(6).choice([1.0, 0.0, -1.0], (20, 400), p=[0.02, 0.96, 0.02])
    signed = hoeffding_bentkus(losses, 0.2, low=-1.0)
    kept = hoeffding_bentkus(clipped(losses, -0.5), 0.2, low=-1.0)
    assert (kept >= signed).all()
    np.testing.assert_array_equal(clipped(losses), (losses == 1.0).astype(float))
    assert clipped([7.0]) == [7.0]  # never cut from above
