"""The chance that a promise that holds is certified, and the rows that takes.

Exact for the binomial test; for the betting test a formula that simulation confirms to a few
hundredths. A number of rows computed from *observed* losses is as good as they are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, log_ndtr, ndtr, ndtri

from adaptive.risk.betting import CAP, plug_in
from adaptive.risk.p_values import Floats, checked

CHUNK = 4_000_000  # losses simulated at once: 32 MB
EXACT = 20_000  # where more losses than that would be allowed, the normal approximation serves
MOST = 1 << 50  # rows: more than anyone has


def binomial_power(level: float, risk: float, rows: int, *, delta: float = 0.05) -> float:
    """The exact chance that `binomial` <= delta, when each row loses with probability `risk`.

    P(Bin(rows, risk) <= c), with c the most losses for which P(Bin(rows, level) <= c) <= delta.
    """
    passing = bisect_right(range(rows), delta, key=lambda losses: float(bdtr(losses, rows, level)))
    return float(bdtr(passing - 1, rows, risk)) if passing else 0.0


def rows_for_binomial(
    level: float, risk: float, *, delta: float = 0.05, power: float = 0.8
) -> int | None:
    """The least number of rows from which on `binomial_power` stays at or above `power`.

    The power climbs in teeth: it falls with every row until one loss more may be had. So each
    tooth's end counts.

    Where the answer allows over 20,000 losses, it is the normal approximation
    ((z_delta sqrt(a (1 - a)) + z_power sqrt(r (1 - r))) / (a - r))^2 with level a and risk r,
    which is then right to a few parts in a thousand.

    Returns:
        None where the risk is not below the level: then no number is enough.
    """
    if risk >= level:
        return None
    root = -ndtri(delta) * np.sqrt(level * (1.0 - level)) + ndtri(power) * np.sqrt(
        risk * (1.0 - risk)
    )
    normal = (root / (level - risk)) ** 2
    if normal * level > EXACT:
        return int(np.ceil(normal))
    teeth = 64
    while True:
        losses = np.arange(teeth)
        starts = _starts(losses, level, delta)
        short = np.flatnonzero(bdtr(losses[:-1], starts[1:] - 1, risk) < power)
        first = int(short[-1]) + 1 if len(short) else 0
        if first < teeth // 2:
            return int(starts[first])
        teeth *= 2


def betting_power(
    values: ArrayLike,
    rows: int,
    level: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    weights: ArrayLike | None = None,
    delta: float = 0.05,
) -> float:
    """About the chance that `betting` <= delta with so many rows of such losses.

    The bets are taken as what they tend to, b = min(sqrt(2 log(1 / delta) / (n s^2)), CAP /
    (1 - m)), and the logarithm of the capital as a Brownian motion of the drift g and variance v
    of log(1 - b (x - m)). Its chance to reach L = log(1 / delta) within n rows is (first passage,
    inverse Gaussian distribution)

        Phi((n g - L) / sqrt(n v)) + exp(2 g L / v) Phi(-(n g + L) / sqrt(n v))

    Args:
        values: [k] losses, those observed or all there can be.
        weights: [k] how often each comes; None: all alike.

    Raises:
        ValueError: a loss or the level is outside its bounds, or the weights do not fit.
    """
    loss = checked(values, level, low, high)
    share = _shares(loss, weights)
    scaled, limit = (loss - low) / (high - low), (level - low) / (high - low)
    variance = _moments(scaled, share)[1]
    # The test starts from a variance of 1/4, held as strongly as one row.
    bet = min(
        float(plug_in(np.array(variance + 0.25 / (rows + 1)), rows, delta)), CAP / (1 - limit)
    )
    drift, spread = _moments(np.log1p(-bet * (scaled - limit)), share)
    goal, deviation = -np.log(delta), np.sqrt(rows * spread)
    if deviation == 0.0:
        return float(rows * drift >= goal)
    straight = ndtr((rows * drift - goal) / deviation)
    reflected = np.exp(2.0 * drift * goal / spread + log_ndtr(-(rows * drift + goal) / deviation))
    return float(min(1.0, straight + reflected))


def rows_for_betting(
    values: ArrayLike,
    level: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    weights: ArrayLike | None = None,
    delta: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """About the number of rows from which `betting_power` is at least `power`.

    Returns:
        None where the mean loss is not below the level, or by nothing one could ever measure.
    """
    loss = checked(values, level, low, high)
    share = _shares(loss, weights)
    if not len(loss) or _moments(loss, share)[0] >= level:
        return None

    def enough(rows: int) -> bool:
        chance = betting_power(loss, rows, level, low=low, high=high, weights=share, delta=delta)
        return chance >= power

    most = 1
    while not enough(most):
        most *= 2
        if most > MOST:
            return None
    least = most // 2  # not enough, or 0
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def simulated_power(
    test: Callable[[Floats], Floats],
    values: ArrayLike,
    rows: int,
    *,
    weights: ArrayLike | None = None,
    delta: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
) -> float:
    """The share of draws of `rows` losses from `values` [k] whose p-value is at most delta.

    The truth for every test, to about sqrt(p (1 - p) / draws). Where the losses' mean is the
    level itself, it is the rate of false certificates.

    Args:
        test: losses [d, rows] to p-values [d].
        weights: [k] how often each value comes; None: all alike.
    """
    loss = np.asarray(values, dtype=np.float64)
    share = _shares(loss, weights)
    edges = share.cumsum() / share.sum()
    edges[-1] = 1.0
    generator = np.random.default_rng(seed)
    passed, step = 0, max(1, CHUNK // max(rows, 1))
    for start in range(0, draws, step):
        uniform = generator.random((min(step, draws - start), rows))
        passed += int((test(loss[edges.searchsorted(uniform, side="right")]) <= delta).sum())
    return passed / draws


def _shares(values: Floats, weights: ArrayLike | None) -> Floats:
    share = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != values.shape:
        raise ValueError(f"found weights of {share.shape} for values of {values.shape}")
    return share


def _moments(values: Floats, share: Floats) -> tuple[float, float]:
    mean = np.average(values, weights=share)
    return float(mean), float(np.average((values - mean) ** 2, weights=share))


def _starts(losses: NDArray[np.int64], level: float, delta: float) -> NDArray[np.int64]:
    """The fewest rows with which so many losses still pass, [k]: by bisection, all at once."""
    least, most = losses.copy(), losses + 1  # with no more rows than losses none passes
    while (failing := bdtr(losses, most, level) > delta).any():
        most = np.where(failing, 2 * most, most)
    while (most - least > 1).any():
        middle = (least + most) // 2
        failing = bdtr(losses, middle, level) > delta
        least, most = np.where(failing, middle, least), np.where(failing, most, middle)
    return most
