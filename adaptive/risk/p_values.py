"""P-values for H0: mean loss > level, from sums alone: the order of rows does not matter.

References:
    Clopper and Pearson (1934), the use of confidence or fiducial limits, Biometrika 26.
    Bates, Angelopoulos, Lei, Malik, Jordan (2021), distribution-free risk-controlling prediction
        sets, Journal of the ACM 68(6), section 3.1.
    Angelopoulos, Bates, Candès, Jordan, Lei (2022), Learn then Test, arXiv:2110.01052.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, rel_entr

Floats = NDArray[np.float64]


def binomial(losses: ArrayLike, level: float, counted: ArrayLike | None = None) -> Floats:
    """The exact p-value for losses of 0 and 1.

    p = P(Bin(n, level) <= sum of losses), the greatest chance under H0 of so few losses.

    Args:
        losses: [..., n], each 0 or 1.
        level: in [0, 1).
        counted: [..., n] rows that the mean is over, as the answered ones where some are not;
            None: all. Given which rows count, their losses are independent and alike, so the
            p-value is valid for each such outcome, and hence on the whole.

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: a loss is neither 0 nor 1, or the level is outside [0, 1).
    """
    rows = checked(losses, level, 0.0, 1.0)
    if ((rows != 0.0) & (rows != 1.0)).any():
        raise ValueError("the binomial test needs losses of 0 and 1; others are bounded: `betting`")
    if counted is None:
        return np.asarray(bdtr(rows.sum(-1), rows.shape[-1], level), dtype=np.float64)
    some = np.asarray(counted, dtype=np.bool_)
    p: Floats = np.asarray(bdtr((rows * some).sum(-1), some.sum(-1), level))
    return p


def hoeffding_bentkus(
    losses: ArrayLike, level: float, *, low: float = 0.0, high: float = 1.0
) -> Floats:
    """The smaller of Hoeffding's and Bentkus' p-values for losses in [low, high].

    With losses and level scaled to [0, 1], mean r and level a (Learn then Test, Hoeffding-Bentkus
    p-value; Bates et al. 2021, section 3.1):

        p = min( exp(-n h(min(r, a), a)),  e P(Bin(n, a) <= ceil(n r)) )
        h(r, a) = r log(r / a) + (1 - r) log((1 - r) / (1 - a))

    Args:
        losses: [..., n].
        level: in [low, high).

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: a loss or the level is outside its bounds.
    """
    rows = (checked(losses, level, low, high) - low) / (high - low)
    count, limit = rows.shape[-1], (level - low) / (high - low)
    total = rows.sum(-1)
    mean = np.minimum(total / max(count, 1), limit)
    entropy = rel_entr(mean, limit) + rel_entr(1.0 - mean, 1.0 - limit)
    bentkus = np.e * bdtr(np.minimum(np.ceil(total), count), count, limit)
    p: Floats = np.minimum(np.exp(-count * entropy), bentkus)
    return p


def clipped(losses: ArrayLike, floor: float = 0.0) -> Floats:
    """Losses no lower than the floor: credit beyond it is given away, for tests that need none.

    Since loss <= max(loss, floor), a p-value of the clipped losses is one of the losses. There is
    no ceiling: to cut great losses off would break the promise.
    """
    values: Floats = np.maximum(np.asarray(losses, dtype=np.float64), floor)
    return values


def checked(losses: ArrayLike, level: float, low: float, high: float) -> Floats:
    """The losses as float64 [..., n].

    Raises:
        ValueError: a loss is outside [low, high] or not a number, the level is outside
            [low, high), or there is no axis of rows.
    """
    rows = np.asarray(losses, dtype=np.float64)
    if rows.ndim == 0:
        raise ValueError("losses need an axis of rows, found a single number")
    if not low <= level < high:
        raise ValueError(f"the level is {level}, it must be at least {low} and less than {high}")
    if not ((rows >= low) & (rows <= high)).all():
        raise ValueError(f"losses must lie in [{low}, {high}], found [{rows.min()}, {rows.max()}]")
    return rows
