"""The exact test of a drop in accuracy, from four counts: no order of rows, no bets.

Two models answer the same rows. *worse* counts those that only the first has right, *better*
those that only the second has right, *both* those that both have. Accuracy drops by more than a
share L of the first one's just where

    H0: P(worse) - P(better) > L P(first right)

which is the hypothesis that the mean of the signed drop, (1 - L) first right - second right, is
above 0. The betting test of bounded means holds for any distribution of losses, and pays for it:
at an error of 5 % it needs about (2.45 / 1.645)^2 = 2.2 times the rows of a test that knows how
the losses are distributed. Here that is known, it is multinomial; what is not known are two of
its parameters, over which the p-value is maximised.

References:
    Barnard (1947), significance tests for 2x2 tables, Biometrika 34: unconditional tests.
    Berger and Boos (1994), P values maximized over a confidence set for the nuisance parameter,
        Journal of the American Statistical Association 89.
    Hsueh, Liu, Chen (2001), unconditional exact tests for equivalence or noninferiority for
        paired binary endpoints, Biometrics 57: the same design for a fixed difference.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, gammaln, ndtri, xlog1py, xlogy

from adaptive.risk.p_values import Floats

Ints = NDArray[np.int64]

SPARED = 50  # delta over this is what the confidence sets of the parameters may cost
# Width of a cell of the search in standard deviations of the discordant share, over sqrt(delta):
# what the curvature adds is then about a hundredth of delta.
STEP = 0.3
TAILS = 5.0  # standard deviations of a sum; what lies beyond them counts as wholly passing


def paired(
    worse: ArrayLike,
    better: ArrayLike,
    both: ArrayLike,
    rows: int,
    level: float,
    *,
    delta: float = 0.05,
) -> Floats:
    """P-values for H0: accuracy drops by more than `level` of the first model's.

    With t = level x a, a below P(first right) but for a chance of delta / 100 (Clopper and
    Pearson), and with m = worse + better discordant rows, the statistic is

        z = (worse - better - n t) / sqrt(max(m, n t))

    and the p-value the greatest chance of a z as small over all discordant shares d of a
    confidence set C of another delta / 100 (Berger and Boos 1994), plus both chances:

        p = max_{d in C} sum_m Bin(m; n, d) P(Bin(m, (1 + t / d) / 2) <= c_m) + delta / 50
        c_m = (z sqrt(max(m, n t)) + m + n t) / 2

    The greatest is not searched by trying points: C is cut into cells, and in each the chance is
    bounded by its values at the ends and by its curvature, so nothing between them is missed.

    Args:
        worse, better, both: [...] counts; the remaining rows are wrong in both models, or are
            not counted.
        rows: n.
        level: in [0, 1).
        delta: the error that the p-value will be compared with, fixed before rows are seen. It
            is valid at any other too.

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: counts are negative or more than the rows, or the level is outside [0, 1).
    """
    if not 0.0 <= level < 1.0:
        raise ValueError(f"the level is {level}, it must be at least 0 and less than 1")
    counts = np.stack(np.broadcast_arrays(worse, better, both), -1).astype(np.int64)
    if (counts < 0).any() or (counts.sum(-1) > rows).any():
        raise ValueError(f"counts must be at least 0 and sum to at most {rows} rows")
    flat = [_p_value(*own, rows, level, delta) for own in counts.reshape(-1, 3).tolist()]
    return np.array(flat, dtype=np.float64).reshape(counts.shape[:-1])


def drop_counts(losses: ArrayLike) -> tuple[Ints, Ints, Ints]:
    """Worse, better and both [...] of signed drops (1 - L) first right - second right, [..., n]."""
    rows = np.asarray(losses, dtype=np.float64)
    kinds = (rows > 0.0, rows == -1.0, (rows > -1.0) & (rows < 0.0))
    worse, better, both = (kind.sum(-1, dtype=np.int64) for kind in kinds)
    return worse, better, both


def rows_for_paired(
    worse: float, better: float, both: float, level: float, *, delta: float, power: float = 0.8
) -> int | None:
    """About the rows with which `paired` <= delta in a share `power` of draws.

    The normal approximation, ((z_delta + z_power) s / mean)^2 with the mean and the standard
    deviation s of the signed drop; right to about a tenth of the rows, or a fifth where fewer
    than about 20 of them are discordant.

    Args:
        worse, better, both: shares of the rows.

    Returns:
        None where accuracy drops by the level or more: then no number is enough.
    """
    first = worse + both
    mean = worse - better - level * first
    if mean >= 0.0:
        return None
    square = worse * (1.0 - level) ** 2 + both * level**2 + better
    quantiles = -ndtri(delta * (1.0 - 1.0 / SPARED)) + ndtri(power)
    return int(np.ceil((quantiles / mean) ** 2 * (square - mean**2)))


@lru_cache(maxsize=1 << 16)
def _p_value(worse: int, better: int, both: int, rows: int, level: float, delta: float) -> float:
    spare, discordant = delta / SPARED / 2, worse + better
    margin = level * _interval(worse + both, rows, 2 * spare)[0]  # of P(worse) - P(better)
    low, high = _interval(discordant, rows, spare)
    low = max(low, margin)  # under H0 no fewer rows are discordant
    if low > high:
        return 2 * spare
    if low == 0.0:  # nothing is discordant, and nothing need be
        return 1.0
    z = (worse - better - rows * margin) / np.sqrt(max(discordant, 1.0, rows * margin))
    width = (
        STEP * np.sqrt(delta / rows) / 2.0
    )  # of arcsin sqrt(d), whose deviation is the same for all d
    ends = np.arcsin(np.sqrt([low, high]))
    cells = max(1, int(np.ceil((ends[1] - ends[0]) / width)))
    grid = np.sin(np.linspace(ends[0], ends[1], cells + 1)) ** 2
    below, above = grid[:-1], grid[1:]
    likely = np.maximum(*_chances(below, above, z, rows, margin))
    spread = np.minimum(below * (1.0 - below), above * (1.0 - above))
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = (rows + 0.5 * np.sqrt(rows / spread)) / spread * (above - below) ** 2 / 8.0
    bound = float(np.nan_to_num(likely + curved, nan=1.0).max())
    return min(1.0, bound + 2 * spare)


def _chances(
    below: Floats, above: Floats, z: float, rows: int, margin: float
) -> tuple[Floats, Floats]:
    """Chance of so small a z for discordant shares at both ends of cells [k], with in all of
    a cell the least share of worse rows among the discordant, that of its upper end.

    As a function of d alone, f(d) = sum_m Bin(m; n, d) g(m) with g in [0, 1], the chance then has
    a second derivative of at most half the mean absolute value of (Bin'' / Bin)(m), hence of
    (n + sqrt(n / (d (1 - d))) / 2) / (d (1 - d)): so much it may exceed its ends in between.
    """
    reach = TAILS * (np.sqrt(rows * above * (1.0 - below)) + 1.0)
    span = int(2 * reach.max()) + 2
    first = np.clip(rows * above - reach, 0, max(0, rows - span)).astype(np.int64)
    counts = first[:, None] + np.arange(min(span, rows + 1))  # [k, m]
    # a hair more, lest rounding leaves out what was observed
    deviation = np.sqrt(np.maximum(counts, max(1.0, rows * margin)))
    most = np.floor((z * deviation + counts + rows * margin) / 2.0 + 1e-9)
    share = np.minimum((1.0 + margin / above) / 2.0, 1.0)[:, None]
    passing = _below(np.clip(most, -1, counts), counts, share)
    found = []
    for d in (below[:, None], above[:, None]):
        weight = _binomial(counts, rows, d)
        # what the sum leaves out counts as wholly passing
        found.append((weight * passing).sum(1) + np.maximum(0.0, 1.0 - weight.sum(1)))
    return found[0], found[1]


def _below(most: Floats, counts: Ints, share: Floats) -> Floats:
    """P(Bin(counts, share) <= most), [k, m], for counts that rise by one along m.

    From one count to the next the chance changes by single terms, which are far cheaper than the
    incomplete beta function; where `most` jumps, it must serve all the same.
    """
    steps = np.diff(most)
    if (np.abs(steps) > 1).any():
        return np.where(most < 0, 0.0, bdtr(np.maximum(most, 0), counts, share))
    before, after = most[:, :-1], most[:, 1:]
    change = -share * _binomial(before, counts[:, :-1], share)  # one more that may be worse
    change += np.where(steps > 0, _binomial(after, counts[:, 1:], share), 0.0)
    change -= np.where(steps < 0, _binomial(before, counts[:, 1:], share), 0.0)
    start = np.where(most[:, :1] < 0, 0.0, bdtr(np.maximum(most[:, :1], 0), counts[:, :1], share))
    found: Floats = np.clip(np.concatenate([start, start + change.cumsum(1)], 1), 0.0, 1.0)
    return found


def _binomial(count: Floats | Ints, rows: Ints | int, share: Floats) -> Floats:
    """P(Bin(rows, share) = count), 0 for a count below 0."""
    inside = np.maximum(count, 0.0)
    terms = gammaln(rows + 1.0) - gammaln(inside + 1.0) - gammaln(rows - inside + 1.0)
    chance = np.exp(terms + xlogy(inside, share) + xlog1py(rows - inside, -share))
    found: Floats = np.where(count < 0, 0.0, chance)
    return found


def _interval(count: int, rows: int, error: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, wrong with a chance of at most `error`."""
    low = float(betaincinv(count, rows - count + 1, error / 2)) if count else 0.0
    high = float(betaincinv(count + 1, rows - count, 1.0 - error / 2)) if count < rows else 1.0
    return low, high
