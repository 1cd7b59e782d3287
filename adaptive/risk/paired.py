"""The exact test of a drop in accuracy, from counts alone: no order of rows, no bets.

Two models answer the same rows. *worse* counts those that only the first has right, *better*
those that only the second has right, *both* those that both have. Accuracy drops by more than a
share L of the first one's just where

    H0: P(worse) - P(better) > L P(first right)

which is the hypothesis that the mean of the signed drop, (1 - L) first right - second right, is
above 0. The betting test holds for any distribution of losses and pays for it with rows. Here the
distribution is known: it is multinomial. What is not known are two of its parameters, and both
are replaced by the worst values that the rows allow (Berger and Boos 1994):

    the share a of rows that the first model has right, by its lower confidence bound;
    the share d of rows that are worse or better, by the worst value in a confidence interval.

The rows are ordered by the score statistic of the difference against a *constant* t0, fixed
before they are seen. Were t0 taken from the rows themselves, the order of outcomes would change
with the outcome, and the argument of Berger and Boos would not apply.

References:
    Barnard (1947), significance tests for 2x2 tables, Biometrika 34: unconditional tests.
    Berger and Boos (1994), P values maximized over a confidence set for the nuisance parameter,
        Journal of the American Statistical Association 89.
    Tango (1998), equivalence test and confidence interval for the difference in proportions for
        the paired-sample design, Statistics in Medicine 17: the score statistic.
    Hsueh, Liu, Chen (2001), unconditional exact tests for equivalence or noninferiority for
        paired binary endpoints, Biometrics 57: the same design for a fixed difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, gammaln, xlog1py, xlogy

from adaptive.risk.p_values import Floats

Ints = NDArray[np.int64]

SPARED = 100  # delta over this is what each confidence set may cost
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
    accuracy: float = 1.0,
    delta: float = 0.05,
) -> Floats:
    """P-values for H0: accuracy drops by more than `level` of the first model's.

    With t0 = level x accuracy, the statistic T of an outcome (see `score`) is the difference
    worse - better against n t0, in units of its deviation. A bound a_low lies below P(first right)
    but for a chance of delta / 100 (Clopper and Pearson), and a set C holds P(worse or better) but
    for as much. Where both hold and H0 is true, the difference is at least t = level x a_low. For
    each d the chance of a T as small as the one seen falls as the difference grows, so it is
    greatest at t, and

        p = max_{d in C, d >= t} P(T <= T seen; discordant share d, difference t) + delta / 50

    is above the true chance but for what the two sets cost, which is added.

    The greatest is not searched by trying points: C is cut into cells, and in each the chance is
    bounded by its values at the ends and by its curvature, so nothing between them is missed.

    Args:
        worse, better, both: [...] counts; the remaining rows are wrong in both models, or are
            not counted.
        rows: n.
        level: in [0, 1).
        accuracy: what P(first right) is expected to be, from other rows. The p-value is valid
            whatever it is, and sharpest where it is right.
        delta: the error that the p-value will be compared with, fixed before rows are seen. It
            is valid at any other too.

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: counts are negative or more than the rows, or the level is outside [0, 1).
    """
    if not 0.0 <= level < 1.0:
        raise ValueError(f"the level is {level}, it must be at least 0 and less than 1")
    counts = _checked(np.broadcast_arrays(worse, better, both), rows)
    flat = [
        _p_value(w, b, rows, level * accuracy, level * lower(w + o, rows, delta / SPARED), delta)
        for w, b, o in counts.reshape(-1, 3).tolist()
    ]
    found = np.minimum(np.array(flat, dtype=np.float64) + delta / SPARED, 1.0)
    return found.reshape(counts.shape[:-1])


def paired_margin(
    worse: ArrayLike,
    better: ArrayLike,
    rows: int,
    margin: float,
    *,
    differing: ArrayLike | None = None,
    delta: float = 0.05,
) -> Floats:
    """P-values for H0: P(worse) - P(better) > margin, a constant; see `paired`.

    Args:
        worse, better: [...] counts.
        rows: n.
        margin: in [0, 1); fixed before the rows are seen.
        differing: [...] rows on which the two models' answers differ, of which some may be neither
            worse nor better. Where given, the set C comes from them alone: all d up to the upper
            bound of their share. Then the p-value depends on which rows are worse and which are
            better through the statistic alone, and never falls when a row becomes worse, nor
            rises when one becomes better.
        delta: as for `paired`.

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: counts are negative or more than they can be, or the margin is outside [0, 1).
    """
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"the margin is {margin}, it must be at least 0 and less than 1")
    given = [worse, better] if differing is None else [worse, better, differing]
    counts = _checked(np.broadcast_arrays(*given)[:2], rows)
    most: Sequence[int | None] = [None] * counts[..., 0].size
    if differing is not None:
        apart = np.broadcast_to(np.asarray(differing, dtype=np.int64), counts.shape[:-1])
        if (apart < counts.sum(-1)).any() or (apart > rows).any():
            raise ValueError(f"differing rows include worse and better, and are at most {rows}")
        most = apart.reshape(-1).tolist()
    pairs = zip(counts.reshape(-1, 2).tolist(), most, strict=True)
    flat = [_p_value(w, b, rows, margin, margin, delta, own) for (w, b), own in pairs]
    return np.array(flat, dtype=np.float64).reshape(counts.shape[:-1])


def score(worse: ArrayLike, better: ArrayLike, rows: int, margin: float) -> Floats:
    """Tango's score statistic of worse - better against rows x margin; small where few are worse.

    (worse - better - n t) / sqrt(n (d - t^2)), with d the most likely share of discordant rows
    where the difference of shares is t: twice the positive root of
    2 n x^2 + (2 n t - t (worse - better) - worse - better) x - better t (1 - t), plus t.

    It rises with `worse` and falls with `better`.
    """
    more, fewer = np.asarray(worse, dtype=np.float64), np.asarray(better, dtype=np.float64)
    middle = 2.0 * rows * margin - margin * (more - fewer) - more - fewer
    end = fewer * margin * (1.0 - margin)
    root = np.sqrt(middle * middle + 8.0 * rows * end)
    # of the two ways to write the root, the one that does not subtract what is nearly equal
    share = np.where(
        middle > 0.0, 2.0 * end / np.maximum(middle + root, 1e-300), (root - middle) / (4.0 * rows)
    )
    variance = rows * (2.0 * share + margin - margin * margin)
    found: Floats = (more - fewer - rows * margin) / np.sqrt(np.maximum(variance, 1e-12))
    return found


def drop_counts(losses: ArrayLike) -> tuple[Ints, Ints, Ints]:
    """Worse, better and both [...] of signed drops (1 - L) first right - second right, [..., n]."""
    rows = np.asarray(losses, dtype=np.float64)
    kinds = (rows > 0.0, rows == -1.0, (rows > -1.0) & (rows < 0.0))
    worse, better, both = (kind.sum(-1, dtype=np.int64) for kind in kinds)
    return worse, better, both


def lower(count: int, rows: int, error: float) -> float:
    """Below a share, of which `count` of `rows` were seen, but for a chance of `error`."""
    return float(betaincinv(count, rows - count + 1, error)) if count else 0.0


def upper(count: int, rows: int, error: float) -> float:
    """Above a share, of which `count` of `rows` were seen, but for a chance of `error`."""
    return float(betaincinv(count + 1, rows - count, 1.0 - error)) if count < rows else 1.0


def _checked(counts: Sequence[NDArray[Any]], rows: int) -> Ints:
    """Counts [..., k] as one array."""
    found = np.stack(counts, -1).astype(np.int64)
    if (found < 0).any() or (found.sum(-1) > rows).any():
        raise ValueError(f"counts must be at least 0 and sum to at most {rows} rows")
    return found


@lru_cache(maxsize=1 << 16)
def _p_value(
    worse: int,
    better: int,
    rows: int,
    constant: float,
    margin: float,
    delta: float,
    differing: int | None = None,
) -> float:
    """The greatest chance over C, and what C costs.

    Args:
        constant: t0, in the statistic.
        margin: the difference under H0, at least.
    """
    spare, low = delta / SPARED, margin  # under H0 no fewer rows are discordant
    if differing is None:
        low = max(low, lower(worse + better, rows, spare / 2.0))
        high = upper(worse + better, rows, spare / 2.0)
    else:
        high = upper(differing, rows, spare)
    if low > high:
        return spare
    if low == 0.0:  # nothing is discordant, and nothing need be
        return 1.0
    seen = float(score(worse, better, rows, constant))
    width = (
        STEP * np.sqrt(delta / rows) / 2.0
    )  # of arcsin sqrt(d), whose deviation is the same for all d
    ends = np.arcsin(np.sqrt([low, high]))
    cells = max(1, int(np.ceil((ends[1] - ends[0]) / width)))
    grid = np.sin(np.linspace(ends[0], ends[1], cells + 1)) ** 2
    below, above = grid[:-1], grid[1:]
    likely = np.maximum(*_chances(below, above, seen, rows, constant, margin))
    spread = np.minimum(below * (1.0 - below), above * (1.0 - above))
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = (rows + 0.5 * np.sqrt(rows / spread)) / spread * (above - below) ** 2 / 8.0
    bound = float(np.nan_to_num(likely + curved, nan=1.0).max())
    return min(1.0, bound + spare)


def _chances(
    below: Floats, above: Floats, seen: float, rows: int, constant: float, margin: float
) -> tuple[Floats, Floats]:
    """Chance of so small a statistic for discordant shares at both ends of cells [k], with in all
    of a cell the least share of worse rows among the discordant, that of its upper end.

    As a function of d alone, f(d) = sum_m Bin(m; n, d) g(m) with g in [0, 1], the chance then has
    a second derivative of at most half the mean absolute value of (Bin'' / Bin)(m), hence of
    (n + sqrt(n / (d (1 - d))) / 2) / (d (1 - d)): so much it may exceed its ends in between.
    """
    reach = TAILS * (np.sqrt(rows * above * (1.0 - below)) + 1.0)
    span = int(2 * reach.max()) + 2
    first = np.clip(rows * above - reach, 0, max(0, rows - span)).astype(np.int64)
    counts = first[:, None] + np.arange(min(span, rows + 1))  # [k, m]
    least = int(counts.min())
    most = _most_worse(np.arange(least, int(counts.max()) + 1), seen, rows, constant)
    share = np.minimum((1.0 + margin / above) / 2.0, 1.0)[:, None]
    passing = _below(most[counts - least], counts, share)
    found = []
    for d in (below[:, None], above[:, None]):
        weight = _binomial(counts, rows, d)
        # what the sum leaves out counts as wholly passing
        found.append((weight * passing).sum(1) + np.maximum(0.0, 1.0 - weight.sum(1)))
    return found[0], found[1]


def _most_worse(discordant: Ints, seen: float, rows: int, constant: float) -> Floats:
    """Of so many discordant rows [m] the most that are worse with a statistic as small as seen.

    By bisection, since the statistic rises with them; -1 where even none gives more.
    """
    limit = seen + 1e-9 * (1.0 + abs(seen))  # rounding must not leave out what was observed
    least, most = np.full(len(discordant), -1, dtype=np.int64), discordant + 1
    while (most - least > 1).any():
        middle = (least + most) // 2
        tried = np.clip(middle, 0, discordant)
        inside = score(tried, discordant - tried, rows, constant) <= limit
        open_ = most - least > 1
        least = np.where(open_ & inside, middle, least)
        most = np.where(open_ & ~inside, middle, most)
    return least.astype(np.float64)


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
