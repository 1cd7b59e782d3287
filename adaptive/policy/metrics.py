"""What can be promised: one entry a metric, with everything that depends on which it is.

A metric turns what a policy did with a text into an *excess*, its share in breaking the target: the
target holds where the mean excess is at most 0. All else is told about that number: its bounds, the
test of its mean, and the words for people. To add a metric is to add an entry to `METRICS`, and a
case to tests/policy/test_metrics_table.py.

Levels are losses, but for `accuracy` and `score`, which are floors, and budgets, which are costs.
A policy may leave texts to a person only beside an `abstention`; the promises about answers are
then about the texts that are answered: E[answered x (loss - level)] <= 0 just where
E[loss | answered] <= level. What a text cost is counted all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.costs import DOLLARS, MILLISECONDS, WORK
from adaptive.types import ALWAYS, Evaluation, Policy, Target

Floats = NDArray[np.float64]
About = Literal["answers", "costs", "abstention"]
# share: of texts with a loss, exact where losses are 0 and 1; drop: of a signed difference, exact
# where scores are; mean: of numbers of any size up to a ceiling
Kind = Literal["share", "drop", "mean"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Everything that differs between metrics."""

    about: About
    kind: Kind  # which tests its mean can have
    # [n] of what a policy did, and the reference's scores [n]
    excess: Callable[[Target, Evaluation, NDArray[np.floating]], Floats]
    # the least and the greatest excess of any text, if none costs more than the ceiling given
    bounds: Callable[[Target, float], tuple[float, float]]
    # whether a policy keeps it whatever the texts are; given its ceiling, and whether it is the
    # reference itself
    sure: Callable[[Target, Policy, float, bool], bool]
    words: Callable[[Target], str]
    labelled: bool = False  # needs scores, and so labels or a judge
    full_keeps: bool = False  # the full tier alone keeps it, if it is the reference itself
    unit: str | None = None  # in which costs must be
    bounded: bool = False  # takes a bound beside its level

    @property
    def budget(self) -> bool:
        """Whether its level is a mean cost."""
        return self.about == "costs" and self.kind == "mean"

    def allowed(self, target: Target) -> float:
        """The mean loss that the target allows; of a share, where the excess of no loss begins."""
        return -self.bounds(target, math.inf)[0]

    def level_fault(self, name: str, level: float) -> str | None:
        """What is wrong with a level, in words; None where nothing is."""
        if self.budget:
            fine = 0.0 < level < math.inf
            return None if fine else f"{level:g} is no budget; expected {name} above 0"
        fine = 0.0 <= level <= 1.0
        return None if fine else f"{level:g} is no share; expected a number from 0 to 1"

    def bound_fault(self, name: str, bound: float | None) -> str | None:
        """What is wrong with a bound, in words; None where nothing is."""
        if not self.bounded:
            takers = " and ".join(name for name, each in METRICS.items() if each.bounded)
            return None if bound is None else f"{name} takes no bound; {takers} does"
        fine = bound is not None and 0.0 < bound < math.inf
        return None if fine else f"{name} needs a bound above 0, in {self.unit}"


def _share(target: Target, ceiling: float) -> tuple[float, float]:
    return -target.level, 1.0 - target.level


def _itself(target: Target, policy: Policy, ceiling: float, reference: bool) -> bool:
    return reference


def _never(target: Target, policy: Policy, ceiling: float, reference: bool) -> bool:
    return False


def _unlike(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    return (1.0 - did.alike - target.level) * did.answered


def _below(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    return (target.level - did.score) * did.answered


def _dropped(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    kept = (1.0 - target.level) * reference.astype(np.float64)
    return (kept - did.score) * did.answered


def _left(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    return (~did.answered).astype(np.float64) - target.level


def _dear(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    return did.cost / target.level - 1.0  # as a share of the budget, as other excesses are shares


def _slow(target: Target, did: Evaluation, reference: NDArray[np.floating]) -> Floats:
    return (did.cost > (target.bound or 0.0)).astype(np.float64) - target.level


# share of texts answered unlike the full tier, at most the level
AGREEMENT = Metric(
    about="answers",
    kind="share",
    excess=_unlike,
    bounds=_share,
    sure=_itself,
    words=lambda t: f"at most {t.level:.2%} of the texts answered unlike the full tier",
    full_keeps=True,
)
# share of right answers, at least the level
ACCURACY = Metric(
    about="answers",
    kind="share",
    excess=_below,
    bounds=lambda t, _: (t.level - 1.0, t.level),
    sure=_never,
    words=lambda t: f"accuracy of at least {t.level:.2%}",
    labelled=True,
)
# accuracy lost against the full tier, as a share of the full tier's accuracy, at most the level;
# right answers where the full tier errs are credited
ACCURACY_DROP = Metric(
    about="answers",
    kind="drop",
    excess=_dropped,
    bounds=lambda t, _: (-1.0, 1.0 - t.level),
    sure=_itself,
    words=lambda t: f"at most {t.level:.2%} of the full tier's accuracy lost",
    labelled=True,
    full_keeps=True,
)
# share of texts that are left to a person, at most the level
ABSTENTION = Metric(
    about="abstention",
    kind="share",
    excess=_left,
    bounds=_share,
    sure=lambda _, policy, ceiling, reference: policy.abstain == ALWAYS,
    words=lambda t: f"at most {t.level:.2%} of the texts left to a person",
    full_keeps=True,
)
# share of texts that cost more than the bound, at most the level. It is a text's share of its
# batch's time, not how long a request waits
TEXT_COST = Metric(
    about="costs",
    kind="share",
    excess=_slow,
    bounds=_share,
    sure=lambda t, policy, ceiling, reference: t.bound is not None and ceiling <= t.bound,
    words=lambda t: (
        f"at most {t.level:.2%} of the texts above {t.bound} milliseconds as their share of a batch"
    ),
    unit=MILLISECONDS,
    bounded=True,
)


def _budget(unit: str) -> Metric:
    """What a text costs in the mean, answered or not, at most the level."""
    return Metric(
        about="costs",
        kind="mean",
        excess=_dear,
        bounds=lambda t, ceiling: (-1.0, ceiling / t.level - 1.0),
        sure=_never,
        words=lambda t: f"at most {t.level:g} {unit} a text in the mean",
        unit=unit,
    )


METRICS: Mapping[str, Metric] = {
    "agreement": AGREEMENT,
    "accuracy_drop": ACCURACY_DROP,
    "accuracy": ACCURACY,
    # the same of graded answers
    "score_drop": replace(
        ACCURACY_DROP, words=lambda t: f"at most {t.level:.2%} of the full tier's score lost"
    ),
    "score": replace(ACCURACY, words=lambda t: f"a mean score of at least {t.level:.2%}"),
    "abstention": ABSTENTION,
    "milliseconds": _budget(MILLISECONDS),
    "work": _budget(WORK),
    "dollars": _budget(DOLLARS),
    "text_cost": TEXT_COST,
}


def metric_of(target: Target) -> Metric:
    """The target's entry.

    Raises:
        ValueError: there is no such metric.
    """
    if target.metric not in METRICS:
        raise ValueError(f"no metric is called {target.metric!r}; known: {', '.join(METRICS)}")
    return METRICS[target.metric]


def target_fault(target: Target) -> str | None:
    """What is wrong with a target's level or bound, in words; None where nothing is."""
    name, entry = target.metric, metric_of(target)
    return entry.level_fault(name, target.level) or entry.bound_fault(name, target.bound)


def promise(target: Target) -> str:
    """What the target promises, in words."""
    told = metric_of(target).words(target)
    return told if target.group is None else f"{told}, in each {target.group}"
