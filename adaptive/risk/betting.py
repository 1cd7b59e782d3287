"""A p-value for H0: mean loss > level by betting against it, row by row.

Reference: Waudby-Smith and Ramdas (2024), estimating means of bounded random variables by
betting, Journal of the Royal Statistical Society B 86(1), arXiv:2010.09686.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive.risk.p_values import Floats, checked

# Bets stay under this share of the one that a single worst loss would ruin. The paper calls it c
# and holds 1/2 and 3/4 sensible; with rare losses and a thousand rows, 3/4 succeeds more often.
CAP = 0.75


def betting(
    losses: ArrayLike,
    level: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    seed: int,
    delta: float = 0.05,
) -> Floats:
    """The p-value of a gambler who would grow poor if the mean loss were above the level.

    With losses and level scaled to [0, 1] and taken in the order of `row_order(n, seed)`, the
    capital is the lower arm of the hedged capital process (Theorem 3), with its predictable
    plug-in bets for a fixed number of rows:

        K_t = prod_{i <= t} (1 - b_i (x_i - m)),    p = min(1, 1 / max_t K_t)
        b_t = min( sqrt(2 log(1 / delta) / (n s_{t-1}^2)),  CAP / (1 - m) )
        s_t^2 = (1/4 + sum_{i <= t} (x_i - mu_i)^2) / (t + 1)
        mu_t = (1/2 + sum_{i <= t} x_i) / (t + 1)

    Under H0 the capital is a nonnegative supermartingale that starts at 1: a bet is fixed before
    its row is seen, and is never negative. Ville's inequality bounds the chance that it ever
    reaches 1 / delta by delta.

    Args:
        losses: [..., n], signed ones allowed; all share one order of rows.
        level: in [low, high).
        seed: of the order, to be fixed before the losses are known and kept with the result:
            another order gives another p-value, and the least of several is none.
        delta: the error the bets are sized for; the p-value is valid whatever it is.

    Returns:
        [...] in [0, 1]; 1 where there are no rows.

    Raises:
        ValueError: a loss, the level or delta is outside its bounds.
    """
    rows = checked(losses, level, low, high)
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is {delta}, it must lie between 0 and 1")
    rows = rows[..., row_order(rows.shape[-1], seed)]
    scaled, limit = (rows - low) / (high - low), (level - low) / (high - low)
    growth = np.log1p(-_bets(scaled, limit, delta) * (scaled - limit))
    capital = growth.cumsum(-1).max(-1, initial=0.0)  # its logarithm, that of the start included
    p: Floats = np.exp(-capital)
    return p


def row_order(rows: int, seed: int) -> NDArray[np.int64]:
    """A permutation that is the same everywhere for all time, [rows].

    numpy promises the raw stream of a bit generator, not that of `Generator.permutation`
    (NEP 19): a certificate must be checkable years later.
    """
    order: NDArray[np.int64] = np.random.PCG64(seed).random_raw(rows).argsort(kind="stable")
    return order


def _bets(scaled: Floats, limit: float, delta: float) -> Floats:
    """Each row's bet, from the rows before it alone, [..., n]."""
    count = scaled.shape[-1]
    seen = np.arange(2, count + 2)
    mean = (0.5 + scaled.cumsum(-1)) / seen
    variance = (0.25 + ((scaled - mean) ** 2).cumsum(-1)) / seen
    before = np.full_like(scaled, 0.25)
    before[..., 1:] = variance[..., :-1]
    bets: Floats = np.minimum(plug_in(before, count, delta), CAP / (1.0 - limit))
    return bets


def plug_in(variance: Floats, rows: int, delta: float) -> Floats:
    """The bet that would be best if the variance were known and the mean close to the level."""
    bets: Floats = np.sqrt(2.0 * np.log(1.0 / delta) / (max(rows, 1) * variance))
    return bets
