"""Many hypotheses at once, with one bound on the chance of any wrong rejection.

References:
    Bauer (1991), multiple testing in clinical trials, Statistics in Medicine 10: fixed sequences.
    Angelopoulos, Bates, Candès, Jordan, Lei (2022), Learn then Test, arXiv:2110.01052.
    Berger (1982), multiparameter hypothesis testing and acceptance sampling, Technometrics 24:
        intersection-union tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive.risk.p_values import Floats


def fixed_sequence(p_values: ArrayLike, delta: float) -> int | None:
    """The last of a sequence that is certified, when each is tested at the whole of delta.

    Tests in the given order and stops at the first p-value above delta; later ones do not count,
    however small. The order must not depend on the rows of the p-values. Then the chance that
    any true hypothesis falls is at most delta: the first true one of the sequence would have to,
    and that is one test.

    Args:
        p_values: [k], safest candidate first.

    Returns:
        The index of the last p-value before the first that fails, and None where the first
        fails: no index at all, since -1 would be read as the last candidate.

    Raises:
        ValueError: something is not a p-value, or delta is outside (0, 1).
    """
    failed = np.flatnonzero(_checked(p_values, delta) > delta)
    passed = int(failed[0]) if len(failed) else np.size(p_values)
    return passed - 1 if passed else None


def bonferroni(p_values: ArrayLike, delta: float) -> NDArray[np.int64]:
    """All candidates certified when delta is shared equally, in any order: p <= delta / k.

    The comparison for `fixed_sequence`: it needs no order, and pays for each candidate.

    Args:
        p_values: [k].

    Returns:
        Ascending indices.

    Raises:
        ValueError: something is not a p-value, or delta is outside (0, 1).
    """
    values = _checked(p_values, delta)
    return np.flatnonzero(values <= delta / max(len(values), 1))


def worst(p_values: ArrayLike) -> Floats:
    """The p-value for "at least one of several promises is broken": the greatest of theirs.

    Valid however the promises depend on each other (Berger 1982, theorem 1): one of the broken
    ones alone has to be refuted. So several risks or groups cost no share of delta.

    Args:
        p_values: [r, ...], one row a promise.

    Returns:
        [...].

    Raises:
        ValueError: there is no promise.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not values.shape or not len(values):
        raise ValueError("found no promise to test, need one at least")
    greatest: Floats = values.max(0)
    return greatest


def by_group(
    test: Callable[[Floats], Floats], losses: ArrayLike, groups: ArrayLike, count: int
) -> Floats:
    """Each group's own p-value, for `worst`.

    Args:
        test: losses [..., n'] to p-values [...].
        losses: [..., n].
        groups: [n], each in [0, count).
        count: how many groups have been promised; one without rows gets 1, and so fails.

    Returns:
        [count, ...].

    Raises:
        ValueError: the numbers of rows differ, or a group is outside [0, count).
    """
    rows, group = np.asarray(losses, dtype=np.float64), np.asarray(groups)
    if group.shape != rows.shape[-1:]:
        raise ValueError(f"found groups of {group.shape} for {rows.shape[-1]} rows of losses")
    if ((group < 0) | (group >= count)).any():
        raise ValueError(f"groups must lie in [0, {count}), found {group.min()} to {group.max()}")
    return np.stack([test(rows[..., group == each]) for each in range(count)])


def _checked(p_values: ArrayLike, delta: float) -> Floats:
    values = np.asarray(p_values, dtype=np.float64)
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is {delta}, it must lie between 0 and 1")
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("p-values must be one list of numbers in [0, 1]")
    return values
