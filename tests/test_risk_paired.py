"""The exact test of a drop in accuracy: valid at every parameter, and sharper than betting."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from adaptive.risk import betting, paired, rows_for_paired
from adaptive.risk.paired import _below


def drawn(worse: float, better: float, right: float, rows: int, draws: int) -> np.ndarray:
    """Counts [draws, 4]: worse, better, both right, both wrong."""
    shares = [worse, better, right - worse, 1.0 - right - better]
    return np.random.default_rng(7).multinomial(rows, shares, draws)


def at_the_level(better: float, right: float, level: float) -> float:
    """The share of worse rows with which accuracy drops by the level itself."""
    return better + level * right


@pytest.mark.parametrize(("rows", "level"), [(6, 0.0), (12, 0.1), (14, 0.3)])
def test_no_outcome_is_too_likely_under_any_parameter(rows: int, level: float) -> None:
    """Every outcome there is, so no simulation: P(p <= x) <= x for all x."""
    outcomes = np.array([c for c in product(range(rows + 1), repeat=3) if sum(c) <= rows])
    p = paired(*outcomes.T, rows, level)
    rest = rows - outcomes.sum(1)
    for right, share in product((0.2, 0.5, 0.9, 1.0), (0.0, 0.05, 0.3, 1.0)):
        most = min(1.0 - right, right * (1.0 - level))
        better = share * most
        worse = at_the_level(better, right, level)
        chances = np.array([worse, better, right - worse, 1.0 - right - better]).clip(0.0)
        cells = np.concatenate([outcomes, rest[:, None]], 1)
        mass = stats.multinomial.pmf(cells, rows, chances / chances.sum())
        order = p.argsort()
        below = mass[order].cumsum()
        ends = np.append(np.diff(p[order]) > 0, True)
        assert (below[ends] <= p[order][ends] + 1e-9).all()


@pytest.mark.parametrize(
    ("better", "rows", "draws"),
    [
        (0.002, 1000, 400),
        (0.02, 1000, 400),
        *(pytest.param(b, 4000, 4000, marks=pytest.mark.slow) for b in (0.002, 0.02, 0.05)),
    ],
)
def test_a_drop_of_the_level_is_certified_in_at_most_delta_of_draws(
    better: float, rows: int, draws: int
) -> None:
    counts = drawn(at_the_level(better, 0.9, 0.01), better, 0.9, rows, draws)
    wrong = (paired(*counts.T[:3], rows, 0.01) <= 0.05).mean()
    assert 0.01 < wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


def test_it_needs_fewer_rows_than_betting() -> None:
    rows, draws = 2000, 150
    counts = drawn(0.005, 0.002, 0.95, rows, draws)
    losses = np.array([0.99, -1.0, -0.01, 0.0])
    rng = np.random.default_rng(0)
    rowwise = np.stack([rng.permuted(np.repeat(losses, own)) for own in counts])
    bets = betting(rowwise, 0.0, low=-1.0, high=0.99, seed=0)
    exact = paired(*counts.T[:3], rows, 0.01)
    assert (bets <= 0.05).mean() + 0.05 < (exact <= 0.05).mean()


@pytest.mark.parametrize(("worse", "better"), [(0.012, 0.009), (0.02, 0.02)])
def test_the_rows_needed_are_about_those_that_do(worse: float, better: float) -> None:
    right = 0.9
    rows = rows_for_paired(worse, better, right - worse, 0.01, delta=0.05)
    assert rows is not None
    for share, low, high in ((0.85, 0.55, 0.85), (1.15, 0.75, 0.98)):
        count = int(share * rows)
        counts = drawn(worse, better, right, count, 150)
        power = (paired(*counts.T[:3], count, 0.01) <= 0.05).mean()
        assert low < power < high


def test_no_number_of_rows_proves_what_is_not_so() -> None:
    assert rows_for_paired(0.02, 0.01, 0.9, 0.01, delta=0.05) is None


def test_more_rows_that_are_worse_never_lower_the_p_value() -> None:
    worse = np.arange(60)
    p = paired(worse, 20, 850 - worse, 1000, 0.01)
    assert (np.diff(p) >= -1e-4).all() and p[0] < 0.01 < 0.5 < p[-1]


def test_nothing_is_proved_without_rows_or_without_a_difference() -> None:
    assert paired(0, 0, 0, 0, 0.01) == 1.0
    assert paired(0, 0, 900, 1000, 0.0) == 1.0
    # a thousand rows without one worse are evidence of a drop below 1 %
    assert paired(0, 0, 900, 1000, 0.01) < 0.01


def test_the_confidence_sets_cost_a_share_of_delta() -> None:
    least = [float(paired(0, 400, 500, 1000, 0.01, delta=delta)) for delta in (0.1, 0.01)]
    assert 0.002 < least[0] < 0.004 and 0.0002 < least[1] < 0.0004


def test_sums_of_terms_are_the_incomplete_beta_function() -> None:
    counts = np.arange(5, 80)[None]
    most = np.floor(0.4 * counts + 1.0)
    most[0, 40:] -= np.arange(35) // 2  # falls and rises, by one at most
    share = np.array([[0.55]])
    assert np.abs(np.diff(most)).max() == 1
    expected = stats.binom.cdf(most, counts, share)
    np.testing.assert_allclose(_below(most, counts, share), expected, atol=1e-12)


@pytest.mark.parametrize("counts", [(-1, 0, 0), (5, 5, 5)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at most 10 rows"):
        paired(*counts, 10, 0.01)
    with pytest.raises(ValueError, match="level is 1"):
        paired(1, 1, 1, 10, 1.0)
