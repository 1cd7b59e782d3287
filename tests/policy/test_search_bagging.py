"""A line's thresholds are the mean of those that resamples of the search rows find."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tiny_outcomes import STAGES, rising_cascade

from adaptive.policy import bagging
from adaptive.policy.bagging import SAMPLES, best_line, voted
from adaptive.policy.lines import log_odds, shares, shifting
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import search
from adaptive.types import ALWAYS, NEVER, Policy, Target

TARGET = Target("agreement", 0.3)
FREE = Policy((0, 1, 2), (0.5, NEVER, 0.9, 0.7, 0.8, NEVER, 0.95, ALWAYS))


def found_on(lookup: Lookup) -> Policy:
    return search(lookup, TARGET, margin=1.0, sweeps=2, routed=False)[0].policy


def test_along_a_line_all_thresholds_fall_by_the_same_odds() -> None:
    lookup = rising_cascade(1)
    line = shifting(lookup, FREE, 40)
    on = [k for k in range(len(STAGES)) if line[0].on(k)][:-1]
    odds = log_odds(np.array([[policy.thresholds[k] for k in on] for policy in line]))
    assert len(line) > 20
    assert (np.diff(odds, axis=0) < 0).all()
    inside = (np.abs(odds) < 6).all(1)
    assert np.ptp(np.diff(odds[inside], axis=0), axis=1).max() < 1e-6
    costs = [lookup.evaluate(policy).cost.mean() for policy in line]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(costs))
    stage = lookup.evaluate(line[0]).stage
    assert (stage == stage.max()).mean() > 0.9  # hardly a text leaves early


def test_thresholds_are_the_mean_log_odds_of_those_that_have_the_exit_on() -> None:
    lookup = rising_cascade(0)
    other = replace(FREE, thresholds=(0.9, NEVER, NEVER, 0.7, NEVER, NEVER, ALWAYS, ALWAYS))
    found = voted(lookup, FREE, [FREE, other]).thresholds
    expected = shares(log_odds(np.array([0.5, 0.9])).mean(keepdims=True))[0]
    assert found[0] == pytest.approx(expected)
    assert found[1] == found[5] == NEVER
    assert found[2:5] == pytest.approx((0.9, 0.7, 0.8))
    assert 0.0 < found[6] < 0.95  # the mean of 0.95 and of one that lets all texts pass
    assert found[-1] == 0.0


@pytest.mark.parametrize(("of_ten", "on"), [(3, False), (4, True)])
def test_an_exit_that_few_samples_switch_on_stays_off(of_ten: int, on: bool) -> None:
    lookup = rising_cascade(0)
    without = replace(FREE, path=(0, 2)).with_threshold(3, NEVER).with_threshold(4, NEVER)
    without = without.with_threshold(2, NEVER)
    assert STAGES[3].tier == 1
    policy = voted(lookup, FREE, [FREE] * of_ten + [without] * (10 - of_ten))
    assert policy.on(3) == on
    assert (1 in policy.path) == on


def test_an_entry_rule_is_kept_with_the_path_that_its_costs_are_of() -> None:
    lookup = rising_cascade(0)
    found = replace(FREE, risk_weight=1.5, entry_cost=(1.0, 2.0, 3.0))
    for policy in best_line(lookup, TARGET, found, margin=1.0, sweeps=1):
        assert (policy.risk_weight, policy.entry_cost) == (1.5, (1.0, 2.0, 3.0))
        assert policy.path == (0, 1, 2)


def test_samples_are_drawn_with_replacement_and_alike_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = 103
    lookup = rising_cascade(0, rows)
    lookup = replace(lookup, table=replace(lookup.table, tokens=np.arange(rows)))
    seen: list[list[int]] = []
    searched = bagging._searched

    def watched(part: Lookup, *given: Any) -> Any:
        seen.append(part.table.tokens.tolist())
        return searched(part, *given)

    monkeypatch.setattr(bagging, "_searched", watched)
    found = found_on(lookup)
    first = best_line(lookup, TARGET, found, margin=1.0, sweeps=2)
    assert len(seen) == SAMPLES
    assert all(len(each) == rows and 0.5 < len(set(each)) / rows < 0.75 for each in seen)
    assert len({tuple(each) for each in seen}) == SAMPLES
    assert best_line(lookup, TARGET, found, margin=1.0, sweeps=2) == first


def test_where_no_early_exit_keeps_the_target_the_line_has_one_shared_threshold() -> None:
    lookup = rising_cascade(0, 12)
    strict = Target("agreement", 0.0)
    line = best_line(lookup, strict, FREE, margin=50.0, sweeps=1)
    assert len(line) > 1
    assert line[0].on(len(STAGES) - 1)
