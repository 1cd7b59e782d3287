"""Whether a promise is within reach of any policy at all, told before rows are spent on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import TargetError
from adaptive.policy.metrics import promise
from adaptive.recorded.outcomes import Outcomes
from adaptive.risk import binomial
from adaptive.types import Target

SURE = 0.001  # the chance at which a promise that is within reach is called out of reach


def least_abstention(risk: float, allowed: float) -> float:
    """The share that must be left to a person where all answers together miss a floor.

    Of the best answers there are, a share `risk` is wrong and `allowed` may be: dropping only wrong
    ones leaves (risk - s) / (1 - s) of the rest wrong, which is `allowed` at this s.
    """
    if risk <= allowed:
        return 0.0
    return 1.0 if allowed >= 1.0 else (risk - allowed) / (1.0 - allowed)


def best_possible(outcomes: Outcomes) -> float:
    """The mean score of an oracle that takes the best answer to each request."""
    return float(outcomes.score.max(1).mean())


def check_reach(outcomes: Outcomes, targets: Sequence[Target]) -> list[str]:
    """What an absolute promise demands, in words.

    Args:
        outcomes: of requests that will not be tested on.

    Raises:
        TargetError: not even the best answer to each request keeps the floor, and no abstention
            that is allowed makes up for it; certain at 1 - `SURE` by the exact binomial test.
    """
    told = []
    left = min((each.level for each in targets if each.metric == "abstention"), default=0.0)
    best = outcomes.score.max(1)
    for target in targets:
        if target.metric not in ("accuracy", "score"):
            continue
        floor = target.level * (1.0 - left)  # of all requests, if only misses are left to a person
        needed = least_abstention(1.0 - float(best.mean()), 1.0 - target.level)
        if _chance(best, floor) <= SURE:
            raise TargetError(
                f"{promise(target)} is out of reach: the best answer there is to each request "
                f"scores {best.mean():.2%} in the mean, so that at least {needed:.1%} of the "
                f"requests must be left to a person, and {left:.1%} may be"
            )
        if needed:
            told.append(
                f"{promise(target)}: the best answer to each request scores {best.mean():.2%}, so "
                f"at least {needed:.1%} must be left to a person"
            )
    return told


def _chance(best: NDArray[np.float64], floor: float) -> float:
    """The greatest chance of scores as low as these, were their mean at least the floor.

    Exact for scores of 0 and 1; by Hoeffding's inequality for others.
    """
    if not 0.0 < floor < 1.0:
        return 1.0
    if np.isin(best, (0.0, 1.0)).all():
        return float(binomial(best, floor))
    return float(np.exp(-2.0 * len(best) * max(floor - best.mean(), 0.0) ** 2))
