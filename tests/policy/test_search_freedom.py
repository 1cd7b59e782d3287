"""A line's thresholds are as free as cross-validation inside the search rows says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tiny_outcomes import STAGES, rising_cascade

from adaptive.policy import freedom
from adaptive.policy.freedom import FOLDS, FREE, MIDDLE, MUCH, Way, best_line, compared
from adaptive.policy.lines import REACH, between, log_odds, shifting
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import search, shared_thresholds
from adaptive.policy.targets import mean_excess
from adaptive.types import ALWAYS, NEVER, Policy, Target

TARGET = Target("agreement", 0.3)
PATHS = 4  # of three tiers that end at the full one
EVEN = shared_thresholds(STAGES, (0, 1, 2), 0.9)


def found_on(lookup: Lookup) -> Policy:
    return search(lookup, TARGET, margin=1.0, sweeps=2, routed=False)[0].policy


@pytest.mark.parametrize(("other", "equal"), [(1.0 - 2.0 * MUCH, True), (1.0 - 0.5 * MUCH, False)])
def test_the_middle_way_is_left_only_for_one_that_is_much_cheaper(
    other: float, equal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup, tried = rising_cascade(0), []

    def told(lookup: Lookup, target: Target, ways: list[Way], **given: object) -> list[float]:
        tried.extend(way.freedom for way in ways)
        return [1.0] * (len(ways) - 1) + [other]  # one threshold for all exits is the last

    monkeypatch.setattr("adaptive.policy.freedom.compared", told)
    line = best_line(lookup, TARGET, found_on(lookup), (None,), margin=1.0, sweeps=2)
    assert tried == [MIDDLE, FREE, *[0.0] * PATHS]
    early = [[t for t in each.thresholds if t != NEVER][:-1] for each in line]
    assert all((np.ptp(each) < 1e-9) == equal for each in early[5:-5])


def test_thresholds_are_pulled_towards_the_shared_one_and_exits_that_are_off_stay_so() -> None:
    policy = Policy((0, 1, 2), (0.5, NEVER, 0.99, ALWAYS, 0.95, 0.9, NEVER, ALWAYS))
    own = np.array(policy.thresholds)
    early = [0, 2, 3, 4, 5]
    middle = log_odds(np.array(0.9))
    for free in (0.0, 0.5, 1.0):
        pulled = np.array(between(policy, 0.9, free).thresholds)
        assert (np.isposinf(pulled) == np.isposinf(own)).all()
        away = np.clip(log_odds(np.maximum(own[early], 0.0)) - middle, -REACH, REACH)
        assert log_odds(pulled[early]) == pytest.approx(middle + free * away)


def test_along_a_line_all_thresholds_fall_by_the_same_odds() -> None:
    lookup = rising_cascade(1)
    free = Policy((0, 1, 2), (0.5, NEVER, 0.9, 0.7, 0.8, NEVER, 0.95, ALWAYS))
    line = shifting(lookup, between(free, 0.8, 0.5), 40)
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


def test_along_a_line_a_router_sends_fewer_and_fewer_texts_to_dear_tiers() -> None:
    lookup = rising_cascade(3)
    table = replace(lookup.table, risk=lookup.table.risk * np.float32([1.0, 0.6, 0.1]))
    lookup = replace(lookup, table=table)
    routed = replace(EVEN, risk_weight=1.0, entry_cost=(0.0, 0.1, 0.3))
    line = shifting(lookup, routed, 40)
    on = [k for k in range(len(STAGES)) if EVEN.on(k)][:-1]
    odds = log_odds(np.array([policy.thresholds[on[0]] for policy in line]))
    weights = np.array([policy.risk_weight for policy in line], dtype=float)
    inside = np.abs(odds) < 6
    assert np.diff(np.log(weights))[inside[1:]] == pytest.approx(np.diff(odds)[inside[1:]])
    entries = np.array([lookup.evaluate(policy).entry.mean() for policy in line])
    assert entries[0] > 1.5 and entries[-1] < 0.5 and (np.diff(entries) <= 0).all()


def test_a_way_costs_what_the_cheapest_policy_does_before_the_first_that_would_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptive.policy.freedom.LUCK", (0.0,))
    lookup = rising_cascade(2, 400)
    way = Way(EVEN, 0.0)
    told = compared(lookup, TARGET, [way], margin=1.0, sweeps=1)[0]
    last = None
    for policy in shifting(lookup, EVEN, 200):
        result = lookup.evaluate(policy)
        mean, error = mean_excess((TARGET,), result, lookup.table)
        if (mean + 1.645 * error).max() > 0.0:
            break
        last = result.cost.mean()
    assert told == pytest.approx(last, rel=0.1)
    fewer = compared(lookup, TARGET, [way], margin=1.0, sweeps=1, rows=50)[0]
    assert fewer > 1.05 * told


def test_no_line_is_judged_on_rows_that_it_was_made_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 103
    lookup = rising_cascade(0, rows)
    lookup = replace(lookup, table=replace(lookup.table, tokens=np.arange(rows)))
    made, judged = [], []
    base, swept = freedom._base, freedom.sweep

    def watched_base(part: Lookup, *given: Any) -> Any:
        made.append(set(part.table.tokens.tolist()))
        return base(part, *given)

    def watched_sweep(part: Lookup, targets: Sequence[Target], line: Sequence[Policy]) -> Any:
        if targets:
            judged.append(set(part.table.tokens.tolist()))
        return swept(part, targets, line)

    monkeypatch.setattr(freedom, "_base", watched_base)
    monkeypatch.setattr(freedom, "sweep", watched_sweep)
    way = Way(found_on(lookup), FREE, np.zeros(lookup.table.predictions.shape))
    compared(lookup, TARGET, [way], margin=1.0, sweeps=1)
    assert len(made) == len(judged) == FOLDS
    assert all(one | other == set(range(rows)) for one, other in zip(made, judged, strict=True))
    assert not any(one & other for one, other in zip(made, judged, strict=True))
    assert sorted(row for each in judged for row in each) == list(range(rows))


def test_the_same_rows_are_compared_alike() -> None:
    lookup = rising_cascade(3)
    ways = [Way(found_on(lookup), FREE), Way(EVEN, 0.0)]
    first = compared(lookup, TARGET, ways, margin=1.0, sweeps=2)
    assert first == compared(lookup, TARGET, ways, margin=1.0, sweeps=2)
