"""Every metric's entry: its excess lies within its bounds, its words and faults tell what it is."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.config.targets import read_target
from adaptive.policy.costs import DOLLARS, MILLISECONDS, WORK
from adaptive.policy.metrics import METRICS, metric_of, promise, target_fault
from adaptive.policy.targets import about_costs, check_unit, may_abstain, seeks_quality, several
from adaptive.types import ALWAYS, Evaluation, Policy, Target

# name: level, bound, words, unit, and the excess of one text by hand: answered, with a score of
# 0.5 and likeness 0.25, at a cost of 3, where the reference's score is 1
CASES = {
    "agreement": (0.1, None, "answered unlike the full tier", None, 0.75 - 0.1),
    "accuracy_drop": (0.1, None, "of the full tier's accuracy lost", None, 0.9 - 0.5),
    "accuracy": (0.8, None, "accuracy of at least 80.00%", None, 0.8 - 0.5),
    "score_drop": (0.1, None, "of the full tier's score lost", None, 0.9 - 0.5),
    "score": (0.8, None, "a mean score of at least 80.00%", None, 0.8 - 0.5),
    "abstention": (0.1, None, "left to a person", None, -0.1),
    "milliseconds": (2.0, None, "at most 2 milliseconds a text", MILLISECONDS, 0.5),
    "work": (2.0, None, "at most 2 layers x tokens a text", WORK, 0.5),
    "dollars": (2.0, None, "at most 2 dollars a text", DOLLARS, 0.5),
    "text_cost": (0.1, 2.5, "above 2.5 milliseconds", MILLISECONDS, 0.9),
}
SURE, LEAVING = Policy((0,), (ALWAYS,)), Policy((0,), (ALWAYS,), abstain=0.5)


def target_of(name: str) -> Target:
    level, bound, *_ = CASES[name]
    return Target(name, level, bound=bound)


def test_every_metric_has_a_case() -> None:
    assert CASES.keys() == METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_its_excess_and_words_are_what_its_case_says(name: str) -> None:
    target, (_, _, words, unit, expected) = target_of(name), CASES[name]
    one, here = np.zeros(1, np.int32), np.ones(1, np.bool_)
    did = Evaluation(one, one, here, np.array([0.5]), np.array([0.25]), np.array([3.0]))
    found = METRICS[name].excess(target, did, np.ones(1, np.float32))
    np.testing.assert_allclose(found, [expected])
    assert words in promise(target) and METRICS[name].unit == unit
    assert promise(Target(name, 0.1, group="kind", bound=target.bound)).endswith("in each kind")


@pytest.mark.parametrize("name", METRICS)
def test_no_excess_is_beyond_its_bounds(name: str) -> None:
    rng, rows, target = np.random.default_rng(1), 500, target_of(name)
    grid = np.array([0.0, 0.3, 1.0])
    score, alike, reference = (rng.choice(grid, rows) for _ in range(3))
    cost, where = rng.choice([0.0, 2.0, 7.0], rows), np.zeros(rows, np.int32)
    did = Evaluation(where, where, rng.random(rows) < 0.8, score, alike, cost)
    values = METRICS[name].excess(target, did, reference.astype(np.float32))
    least, most = METRICS[name].bounds(target, 7.0)
    assert least - 1e-12 <= values.min() and values.max() <= most + 1e-7
    assert values.max() == pytest.approx(most) and least < 0.0 < most


def test_which_policies_keep_a_target_whatever_the_texts_are() -> None:
    def sure(name: str, policy: Policy, ceiling: float, reference: bool) -> bool:
        return METRICS[name].sure(target_of(name), policy, ceiling, reference)

    for name in ("agreement", "accuracy_drop", "score_drop"):
        assert sure(name, SURE, 9.0, True) and not sure(name, SURE, 9.0, False)
    assert not sure("accuracy", SURE, 9.0, True)
    assert sure("abstention", SURE, 9.0, False) and not sure("abstention", LEAVING, 9.0, True)
    assert sure("text_cost", SURE, 2.0, False) and not sure("text_cost", SURE, 3.0, False)
    for name in ("milliseconds", "work", "dollars"):  # told by the ceiling in its bounds
        assert METRICS[name].bounds(target_of(name), 2.0)[1] == 0.0


def test_levels_and_bounds_that_cannot_be_are_told() -> None:
    assert target_fault(Target("dollars", 0.0)) == "0 is no budget; expected dollars above 0"
    assert "no share" in str(target_fault(Target("score_drop", 1.5)))
    assert "takes no bound; text_cost does" in str(target_fault(Target("score", 0.5, bound=1.0)))
    assert "in milliseconds" in str(target_fault(Target("text_cost", 0.5)))
    assert not any(target_fault(target_of(name)) for name in METRICS)
    with pytest.raises(ValueError, match="no metric is called 'kindness'"):
        several(Target("kindness", 0.1))
    assert read_target("dollars=0.002")["metric"] == "dollars"


def test_targets_are_told_apart_by_what_they_are_about() -> None:
    dollars, left, drop = (Target(name, 0.1) for name in ("dollars", "abstention", "score_drop"))
    assert seeks_quality([dollars, left]) and not seeks_quality([dollars, drop])
    assert not seeks_quality([left]) and may_abstain([left, drop]) and not may_abstain([drop])
    assert about_costs([drop, dollars]) and not about_costs([left])
    check_unit([dollars, drop], DOLLARS)
    with pytest.raises(ValueError, match="'dollars' is in dollars, and the costs are in mill"):
        check_unit([dollars], MILLISECONDS)
    assert metric_of(drop).labelled and not metric_of(dollars).labelled
