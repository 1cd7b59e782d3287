"""Entry choices that learn nothing: what a router has to beat, and what none can beat.

Each gives the tier entered, [n] int32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def always_tier(texts: int, tier: int) -> NDArray[np.int32]:
    """Every text enters at the same tier."""
    return np.full(texts, tier, dtype=np.int32)


def by_length(lengths: NDArray[np.integer], cuts: Sequence[float]) -> NDArray[np.int32]:
    """Longer texts enter higher: at tier i where i of the ascending `cuts` are below [n] tokens.

    Raises:
        ValueError: cuts that descend.
    """
    if list(cuts) != sorted(cuts):
        raise ValueError(f"cuts must ascend, found {list(cuts)}")
    return np.searchsorted(np.asarray(cuts), lengths, side="left").astype(np.int32)


def at_random(texts: int, shares: Sequence[float], seed: int) -> NDArray[np.int32]:
    """Each tier is entered by its share of the texts, drawn anew for every text.

    Raises:
        ValueError: shares that are negative or do not add up to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be at least 0 and add up to 1, found {list(shares)}")
    share = np.asarray(shares, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(len(share), size=texts, p=share / share.sum())
    return drawn.astype(np.int32)


def oracle(costs: NDArray[np.floating], good: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The cheapest tier [n, m] that leads to a good answer, or the cheapest where none does.

    It knows the outcome: no router can be cheaper at the same quality.

    Raises:
        ValueError: shapes that differ.
    """
    if costs.shape != good.shape or costs.ndim != 2:
        raise ValueError(f"costs {costs.shape} and good {good.shape} must both be [n, m]")
    hopeless = ~good.any(1, keepdims=True)
    allowed = np.where(good | hopeless, costs, np.inf)
    cheapest: NDArray[np.intp] = np.argmin(allowed, axis=1)
    return cheapest.astype(np.int32)
