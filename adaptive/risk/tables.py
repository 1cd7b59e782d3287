"""What the tests achieve on a drop in accuracy: the table that a benchmark writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import bdtr

from adaptive.risk.betting import betting
from adaptive.risk.p_values import Floats, clipped, hoeffding_bentkus
from adaptive.risk.paired import drop_counts, paired
from adaptive.risk.power import betting_power, simulated_power


def drop_losses(
    worse: float, better: float, level: float, accuracy: float
) -> tuple[Floats, Floats]:
    """The four losses of the promise "accuracy falls by at most `level` of the full model's".

    A row's loss is (1 - level) f - r, with f and r 1 where the full model and the cheaper one
    are right: the promise holds where its mean is at most 0.

    Args:
        worse: share of rows where only the full model is right.
        better: share of rows where only the cheaper one is.
        accuracy: of the full model.

    Returns:
        The losses of worse, better, both right and both wrong, and the share of each, [4] both.

    Raises:
        ValueError: there can be no such shares.
    """
    shares = np.array([worse, better, accuracy - worse, 1.0 - accuracy - better])
    if (shares < 0.0).any():
        raise ValueError(f"shares must not be negative, found {shares.tolist()}")
    return np.array([1.0 - level, -1.0, -level, 0.0]), shares


def drop_tests(
    level: float, accuracy: float, delta: float
) -> dict[str, Callable[[Floats], Floats]]:
    """Tests of `drop_losses` [d, n] by name: the signed one, and those that give credit away."""
    high = 1.0 - level

    def clipped_hoeffding_bentkus(losses: Floats) -> Floats:
        return hoeffding_bentkus(clipped(losses, -level), 0.0, low=-level, high=high)

    def clipped_binomial(losses: Floats) -> Floats:
        """Worse rows among those that the full model answers rightly: losses of 0 and 1."""
        known = (losses == high) | (losses == -level)
        p: Floats = bdtr((losses == high).sum(-1), known.sum(-1), level)
        return p

    def exact(losses: Floats) -> Floats:
        counts, rows = drop_counts(losses), losses.shape[-1]
        return paired(*counts, rows, level, accuracy=accuracy, delta=delta)

    return {
        "paired": exact,
        "betting": partial(betting, level=0.0, low=-1.0, high=high, seed=0, delta=delta),
        "hoeffding_bentkus": partial(hoeffding_bentkus, level=0.0, low=-1.0, high=high),
        "clipped_hoeffding_bentkus": clipped_hoeffding_bentkus,
        "clipped_binomial": clipped_binomial,
    }


def drop_table(
    sizes: Sequence[int],
    *,
    worse: float,
    better: float,
    level: float,
    accuracy: float,
    delta: float,
    draws: int,
    seed: int,
) -> list[dict[str, float]]:
    """For each number of rows the share of draws that each test certifies, and the formula's.

    See `drop_losses` for the arguments. All tests see the same draws.
    """
    losses, shares = drop_losses(worse, better, level, accuracy)
    table = []
    for rows in sizes:
        line: dict[str, float] = {"n": rows}
        for name, test in drop_tests(level, accuracy, delta).items():
            line[name] = simulated_power(
                test, losses, rows, weights=shares, delta=delta, draws=draws, seed=seed
            )
        line["betting_formula"] = betting_power(
            losses, rows, 0.0, low=-1.0, high=1.0 - level, weights=shares, delta=delta
        )
        table.append(line)
    return table
