"""The chance that `paired` passes, and the rows that takes: summed over outcomes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri
from scipy.stats import binom

from adaptive.risk.p_values import Floats
from adaptive.risk.paired import SPARED, Ints, paired

ANCHORS = 8  # counts of better rows at which the most worse rows that pass are sought
EXACT = 20_000  # with more rows than that the normal approximation serves
MOST = 1 << 40  # rows: there are no more
NEAR = 0.02  # of the rows: how near to the least number the search stops
GROWTH = 1.25  # of the rows from one try to the next


def paired_power(
    worse: float, better: float, both: float, rows: int, level: float, *, delta: float = 0.05
) -> float:
    """The chance that `paired` <= delta, its `accuracy` being the true one.

    For each number of better rows there is a greatest number of worse rows that passes; it is
    sought at some of them and lies on a line in between. The count of rows that both have right
    is taken at its mean, since the bound that comes from it hardly moves with it.

    Args:
        worse, better, both: shares of the rows.
        level: in [0, 1).
    """
    spread = 5.0 * np.sqrt(rows * better * (1.0 - better)) + 1.0
    first = max(0, int(rows * better - spread))
    fewer = np.arange(first, min(rows, int(rows * better + spread)) + 1)
    anchors = np.unique(np.linspace(fewer[0], fewer[-1], ANCHORS).round().astype(np.int64))
    left = both / max(1.0 - worse - better, 1e-12)

    def passes(tried: Ints) -> NDArray[np.bool_]:
        right = np.rint((rows - tried - anchors) * left).astype(np.int64)
        found = paired(tried, anchors, right, rows, level, accuracy=worse + both, delta=delta)
        passing: NDArray[np.bool_] = found <= delta
        return passing

    # where the difference is as many deviations below the margin as a normal test asks for
    room = rows * level * (worse + both) + anchors
    guess = room + ndtri(delta) * np.sqrt(np.maximum(room + anchors, 1.0))
    most = np.interp(fewer, anchors, _greatest(passes, rows - anchors, guess))
    share = min(1.0, worse / max(1.0 - better, 1e-12))
    passing = np.where(most < 0, 0.0, bdtr(np.maximum(np.floor(most), 0), rows - fewer, share))
    return float(binom.pmf(fewer, rows, better) @ passing)


def rows_for_paired(
    worse: float, better: float, both: float, level: float, *, delta: float, power: float = 0.8
) -> int | None:
    """About the least number of rows from which `paired_power` is at least `power`, within 2 %.

    Power climbs in small teeth, so a few rows more may have a little less. Above 20,000 rows it
    is the normal approximation ((z_delta + z_power) s / mean)^2, with the mean and the standard
    deviation s of the signed drop.

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
    quantiles = -ndtri(delta * (1.0 - 2.0 / SPARED)) + ndtri(power)
    normal = (quantiles / mean) ** 2 * (square - mean**2)
    if normal > EXACT:
        return int(np.ceil(normal)) if normal < MOST else None

    def enough(rows: int) -> bool:
        return paired_power(worse, better, both, rows, level, delta=delta) >= power

    most = max(16, int(normal))  # too few where no row differs: the normal deviation is then 0
    if enough(most):
        while most > 1 and enough(least := int(most / GROWTH)):
            most = least
    else:
        least = most
        while not enough(most := int(least * GROWTH) + 1):
            least = most
    while most - least > max(1.0, NEAR * most):
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def _greatest(passes: Callable[[Ints], NDArray[np.bool_]], limit: Ints, guess: Floats) -> Floats:
    """The greatest counts [k] at which `passes`, which falls as they rise; -1 where none does.

    Args:
        limit: [k], at most.
        guess: [k], near which to look first, in steps that double.
    """
    least = np.full(len(limit), -1, dtype=np.int64)
    most, step = limit + 1, 1
    tried = np.clip(guess.astype(np.int64), 0, limit)
    while (open_ := most - least > 1).any():
        good = passes(tried)
        least = np.where(open_ & good, tried, least)
        most = np.where(open_ & ~good, tried, most)
        onward = np.where(good, tried + step, tried - step)
        inside = (onward > least) & (onward < most)
        bounded = (least >= 0) & (most <= limit)
        tried = np.where(inside & ~bounded, onward, (least + most) // 2).clip(0, limit)
        step *= 2
    return least.astype(np.float64)
