"""The exact test of a drop in accuracy: valid at every parameter, and sharper than betting."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import optimize, stats

from adaptive.risk import betting, lower, paired, paired_margin, paired_power, rows_for_paired
from adaptive.risk.paired import SPARED, _below, _most_worse, _p_value, score


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
    exact = paired(*counts.T[:3], rows, 0.01, accuracy=0.95)
    assert (bets <= 0.05).mean() + 0.05 < (exact <= 0.05).mean()


@pytest.mark.parametrize("rows", [6, 14])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_no_outcome_is_too_likely_under_a_constant_margin(rows: int, margin: float) -> None:
    """All outcomes and all numbers of rows that differ and are neither worse nor better."""
    counts = np.array([c for c in product(range(rows + 1), repeat=3) if sum(c) <= rows])
    worse, better, neither = counts.T
    cells = np.concatenate([counts, rows - counts.sum(1, keepdims=True)], 1)
    alone = paired_margin(worse, better, rows, margin)
    apart = paired_margin(worse, better, rows, margin, differing=worse + better + neither)
    for share, idle in product((0.0, 0.1, 0.4, 1.0), (0.0, 0.3)):
        fewer = share * (1.0 - margin) / 2.0
        left = 1.0 - margin - 2.0 * fewer
        chances = np.array([fewer + margin, fewer, idle * left, (1.0 - idle) * left]).clip(0.0)
        mass = stats.multinomial.pmf(cells, rows, chances / chances.sum())
        for p in (alone, apart):
            order = p.argsort()
            below, sorted_ = mass[order].cumsum(), p[order]
            ends = np.append(np.diff(sorted_) > 0, True)
            assert (below[ends] <= sorted_[ends] + 1e-9).all()


def test_the_statistic_is_the_score_at_the_most_likely_shares() -> None:
    for worse, better, rows, margin in [(5, 3, 60, 0.05), (0, 4, 40, 0.02), (9, 0, 80, 0.01)]:

        def unlikely(fewer: float, worse=worse, better=better, rows=rows, margin=margin) -> float:
            rest = 1.0 - 2.0 * fewer - margin
            return -(
                worse * np.log(fewer + margin)
                + better * np.log(max(fewer, 1e-300))
                + (rows - worse - better) * np.log(rest)
            )

        most = (1.0 - margin) / 2.0
        found = optimize.minimize_scalar(unlikely, bounds=(0.0, most), method="bounded",
                                         options={"xatol": 1e-12}).x  # fmt: skip
        variance = rows * (2.0 * found + margin - margin**2)
        expected = (worse - better - rows * margin) / np.sqrt(variance)
        assert float(score(worse, better, rows, margin)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.009, 0.3])
def test_the_statistic_rises_with_worse_rows_and_falls_with_better_ones(margin: float) -> None:
    rows = 40
    worse, better = np.meshgrid(np.arange(rows + 1), np.arange(rows + 1), indexing="ij")
    found = np.where(worse + better <= rows, score(worse, better, rows, margin), np.nan)
    up, across = np.diff(found, axis=0), np.diff(found, axis=1)
    assert (up[~np.isnan(up)] > 0.0).all() and (across[~np.isnan(across)] < 0.0).all()


def test_without_a_difference_fewer_discordant_rows_are_stronger_evidence() -> None:
    assert (np.diff(score(np.arange(9), np.arange(9), 400, 0.009)) > 0.0).all()
    assert paired(0, 0, 360, 400, 0.01, accuracy=0.9) < 0.05 < paired(3, 3, 357, 400, 0.01)


def test_nothing_between_the_points_of_the_search_is_missed() -> None:
    """The greatest chance lies inside a cell: its ends alone would give 0.0002 too little."""
    worse, better, rows, delta = 1, 3, 8, 0.2
    seen = float(score(worse, better, rows, 0.0))
    counts = np.arange(rows + 1)
    most = _most_worse(counts, seen, rows, 0.0)
    shares = np.linspace(0.1, 0.9, 8001)[:, None]
    chances = stats.binom.pmf(counts, rows, shares) * stats.binom.cdf(most, counts, 0.5)
    bound = _p_value(worse, better, rows, 0.0, 0.0, delta) - delta / SPARED
    assert chances.sum(1).max() <= bound


def test_the_p_value_holds_whatever_accuracy_was_expected() -> None:
    rows, draws = 1000, 120
    counts = drawn(at_the_level(0.01, 0.9, 0.01), 0.01, 0.9, rows, draws)
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    for accuracy in (0.0, 0.5, 1.0):
        p = paired(*counts.T[:3], rows, 0.01, accuracy=accuracy)
        assert (p <= 0.05).mean() <= most


def test_counting_all_differing_rows_never_lets_a_worse_row_help() -> None:
    rows, apart = 300, 40
    worse, better = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    p = paired_margin(worse, better, rows, 0.02, differing=apart)
    assert (np.diff(p, axis=0) >= 0.0).all() and (np.diff(p, axis=1) <= 0.0).all()


def test_a_bound_of_a_share_is_wrong_as_rarely_as_it_says() -> None:
    counts = np.arange(51)
    mass = stats.binom.pmf(counts, 50, 0.9)
    wrong = np.array([lower(int(count), 50, 0.04) > 0.9 for count in counts])
    assert 0.03 < mass[wrong].sum() <= 0.04


@pytest.mark.parametrize(
    ("worse", "better", "rows"), [(0.005, 0.002, 1500), (0.012, 0.009, 2000), (0.0, 0.0, 600)]
)
def test_power_is_the_share_of_draws_that_pass(worse: float, better: float, rows: int) -> None:
    counts = drawn(worse, better, 0.9, rows, 400)
    found = (paired(*counts.T[:3], rows, 0.01, accuracy=0.9) <= 0.05).mean()
    power = paired_power(worse, better, 0.9 - worse, rows, 0.01)
    assert power == pytest.approx(found, abs=0.08)


@pytest.mark.parametrize(("worse", "better"), [(0.0, 0.0), (0.002, 0.0), (0.005, 0.002)])
def test_the_rows_needed_are_those_that_do(worse: float, better: float) -> None:
    both = 0.9 - worse
    rows = rows_for_paired(worse, better, both, 0.01, delta=0.05)
    assert rows is not None
    assert paired_power(worse, better, both, rows, 0.01) >= 0.8
    assert paired_power(worse, better, both, int(0.75 * rows), 0.01) < 0.8


def test_rows_are_needed_even_where_no_row_differs() -> None:
    rows = rows_for_paired(0.0, 0.0, 0.9, 0.01, delta=0.05)
    assert rows is not None and 330 < rows < 400
    assert paired(0, 0, int(0.9 * rows), rows, 0.01, accuracy=0.9) <= 0.05


def test_no_number_of_rows_proves_what_is_not_so() -> None:
    assert rows_for_paired(0.02, 0.01, 0.9, 0.01, delta=0.05) is None


def test_more_rows_that_are_worse_never_lower_the_p_value() -> None:
    worse = np.arange(60)
    p = paired(worse, 20, 850 - worse, 1000, 0.01)
    # the confidence interval of the discordant share moves with them, and with it p by a little
    assert (np.diff(p) >= -0.02 * p[:-1] - 1e-4).all() and p[0] < 0.01 < 0.5 < p[-1]


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
