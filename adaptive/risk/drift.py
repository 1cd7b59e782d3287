"""Whether a mean loss has risen above a level, asked after every row for as long as one likes.

The mirror of `adaptive.risk.betting`: there a gambler proves that the mean is below a level, with
rows whose number is fixed; here one proves that it is above, with rows that never end, from
whatever row on.

References:
    Waudby-Smith and Ramdas (2024), estimating means of bounded random variables by betting,
        Journal of the Royal Statistical Society B 86(1), arXiv:2010.09686: the capital.
    Ville (1939): the chance that a nonnegative martingale of mean 1 ever reaches 1 / alpha is at
        most alpha.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Mean losses that the gambler bets on, as multiples of the level: from slow to sudden rises.
RISES = (1.5, 2.0, 3.0, 6.0, 12.0)


class DriftTest:
    """The capital of gamblers who grow rich if losses in [0, 1] exceed a level in the mean.

    One gambler bets on each rise mu, the share of a loss's odds that is best if the mean is mu:

        L_t = 1 + b (x_t - m),    b = (mu - m) / (m (1 - m))

    and begins at row k with a share 1 / (k (k + 1)) of the money, for every k, so that a rise after
    a long quiet time is found about as soon as one at the beginning; the rest is kept:

        A_t = (A_{t-1} + 1 / (t (t + 1))) L_t,    K_t = A_t + 1 / (t + 1)

    The capital is the mean of K_t over the rises. While the mean loss is at most m, given all rows
    before, it is a nonnegative supermartingale that starts at 1, so the chance that it ever reaches
    1 / alpha is at most alpha.
    """

    def __init__(self, level: float) -> None:
        """No rows yet.

        Raises:
            ValueError: the level is not above 0 and below 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"the level is {level}, it must lie between 0 and 1")
        self.level, self.rows, self.losses = level, 0, 0.0
        self._bets = bets_on(level)
        self._invested = np.zeros(len(self._bets))
        self.capital = self.greatest = 1.0

    @property
    def p_value(self) -> float:
        """For "the mean loss is at most the level", valid at any time of stopping."""
        return min(1.0, 1.0 / self.greatest)

    @property
    def mean(self) -> float:
        """Of the losses so far; 0 where there are none."""
        return self.losses / max(self.rows, 1)

    def add(self, loss: float) -> None:
        """One more row.

        Raises:
            ValueError: a loss that is not in [0, 1].
        """
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"the loss is {loss}, it must lie in [0, 1]")
        self.rows += 1
        self.losses += loss
        self._invested = bet(self._invested, self._bets, loss - self.level, self.rows)
        self.capital = float(self._invested.mean()) + 1.0 / (self.rows + 1.0)
        self.greatest = max(self.greatest, self.capital)


def bets_on(level: float) -> NDArray[np.float64]:
    """What each gambler bets, [b]."""
    half = (1.0 + level) / 2.0  # between the level and the worst there can be
    rises = np.array(sorted({min(level * each, half) for each in (*RISES, np.inf)}))
    bets: NDArray[np.float64] = (rises - level) / (level * (1.0 - level))
    return bets


def bet(
    invested: NDArray[np.float64],
    bets: NDArray[np.float64],
    over: float | NDArray[np.float64],
    row: int,
) -> NDArray[np.float64]:
    """What the gamblers have at stake behind a row, A_t of `DriftTest`, [..., b].

    Args:
        invested: [..., b] before it; of one stream of rows, or of many.
        over: [..., 1] the loss less the level.
        row: its number in its stream, from 1.
    """
    return (invested + 1.0 / (row * (row + 1.0))) * (1.0 + bets * over)
