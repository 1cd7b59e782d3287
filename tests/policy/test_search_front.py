"""The front that is certified: ordered, whole, chosen on the search rows alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny_outcomes import STAGES, random_policy, rising_cascade

from adaptive.policy.fronts import FRONT, GAIN, HOPE, along, front, order
from adaptive.policy.lines import completed, moved
from adaptive.policy.lookup import Lookup, is_bare, single_stage, tier_alone
from adaptive.policy.search import Found, Judge, search
from adaptive.policy.targets import excess
from adaptive.policy.worth import reclassified
from adaptive.types import NEVER, Policy, Target

TARGETS = [Target("agreement", 0.3), Target("accuracy_drop", 0.2), Target("accuracy", 0.5)]
FULL = tier_alone(STAGES, 2)


def found_front(lookup: Lookup, target: Target, *, routed: bool = False) -> list[Found]:
    found = search(lookup, target, margin=1.0, sweeps=1, routed=routed)
    return front(lookup, target, found, sweeps=1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.metric)
def test_a_front_goes_from_the_full_tier_to_the_cheapest_that_keeps_the_target(
    target: Target,
) -> None:
    lookup = rising_cascade(0)
    found = search(lookup, target, margin=1.0, sweeps=1, routed=True)
    ordered = front(lookup, target, found, sweeps=1)
    assert ordered[0].policy == FULL
    assert 3 < len(ordered) <= FRONT
    costs = [f.cost for f in ordered]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] <= min(f.cost for f in found)
    assert all(b <= (1 - GAIN) * a for a, b in pairwise(costs[:-1]))
    for each in ordered:
        result = lookup.evaluate(each.policy)
        assert each.cost == pytest.approx(result.cost.mean())
        values = excess(target, result, lookup.table)
        assert each.excess == pytest.approx(values.mean())


def test_a_front_goes_on_as_long_as_the_search_rows_may_be_wrong() -> None:
    """What stands at the end of a sequence of tests costs those before it nothing."""
    beyond = []
    for seed in range(8):
        lookup = rising_cascade(seed)
        last = found_front(lookup, TARGETS[0])[-1]
        lost = excess(TARGETS[0], lookup.evaluate(last.policy), lookup.table)
        assert lost.mean() <= HOPE * lost.std() / np.sqrt(len(lost)) + 1e-9
        beyond.append(last.excess > 0)
    assert sum(beyond) > 4


def test_a_stage_alone_stands_at_the_end_of_a_front_or_nowhere() -> None:
    """Among policies that cost the same and lose less it would end their sequence."""
    lookup, target = rising_cascade(2, 400), TARGETS[0]
    alone = single_stage(STAGES, 6)
    line = [random_policy(seed, routed=False) for seed in range(60)]
    judge = Judge(lookup, target, 0.0)
    dearer = [p for p in line if judge(p).cost > judge(alone).cost]
    assert judge(alone).excess <= 0
    assert along(lookup, target, [alone, *dearer])[-1].policy == alone
    cheaper = moved(lookup, found_front(lookup, target)[-1].policy, 0.5)
    assert judge(cheaper).cost < judge(alone).cost and judge(cheaper).excess <= 0
    front = [f.policy for f in along(lookup, target, [alone, cheaper, *dearer])]
    assert alone not in front and front[-1] == cheaper


def test_the_line_of_a_policy_that_ends_before_the_full_tier_begins_near_it() -> None:
    lookup, target = rising_cascade(0, 400), TARGETS[0]
    early = Policy((0, 1), (0.6, 0.7, *(NEVER,) * (len(STAGES) - 2)))
    found = [Judge(lookup, target, 0.0)(early)]
    ordered = front(lookup, target, found, sweeps=1)
    assert ordered[0].policy == FULL and len(ordered) > 5
    lost = [f.excess for f in ordered]
    assert lost[1] < lost[0] + 0.05
    same = lookup.evaluate(completed(lookup, early))
    assert (same.stage == lookup.evaluate(early).stage).all()


def test_a_front_has_policies_with_little_and_with_much_to_spare() -> None:
    lookup = rising_cascade(1, 400)
    ordered = found_front(lookup, TARGETS[0])
    spare = [-f.excess for f in ordered[1:]]
    assert spare[-1] < 0.05 and spare[0] > 0.1
    assert np.diff(sorted(spare)).max() < 0.1


def test_the_policies_of_a_front_differ_by_texts_that_leave_earlier_and_in_nothing_else() -> None:
    lookup = rising_cascade(3, 400)
    whole = [f.policy for f in found_front(lookup, TARGETS[1])[1:] if not is_bare(f.policy)]
    assert len(whole) > 3
    assert len({(p.path, tuple(map(p.on, range(len(STAGES))))) for p in whole}) == 1
    stages = [lookup.evaluate(policy).stage for policy in whole]
    assert all((later <= earlier).all() for earlier, later in pairwise(stages))


def test_a_policy_is_moved_by_the_share_of_texts_that_pass_each_threshold() -> None:
    lookup = rising_cascade(4)
    policy = random_policy(5, routed=True)
    sure = lookup.table.reliability
    for share, times in ((0.0, 1.0), (0.5, 0.5), (-0.5, 1.5), (1.0, 0.0)):
        loose = moved(lookup, policy, share)
        for k, (old, new) in enumerate(zip(policy.thresholds, loose.thresholds, strict=True)):
            if not np.isfinite(old):
                assert new == old
                continue
            before, after = (float((sure[:, k] >= np.float32(t)).mean()) for t in (old, new))
            assert after == pytest.approx(min(1.0, times * before), abs=0.011)


def test_a_front_has_no_holes_where_a_few_rows_make_a_policy_look_worse_than_it_is() -> None:
    """Few rows scatter more than neighbours on a line differ."""
    lookup = rising_cascade(2, 60)
    ordered = found_front(lookup, Target("accuracy_drop", 0.3))
    excesses = [f.excess for f in ordered]
    assert excesses != sorted(excesses)
    steps = [later.cost / earlier.cost for earlier, later in pairwise(ordered)]
    assert min(steps) > 0.6


def test_no_policy_of_an_order_is_better_than_another_in_both() -> None:
    lookup = rising_cascade(2)
    rest = order(lookup, TARGETS[1], [random_policy(seed, routed=False) for seed in range(80)])[1:]
    assert len(rest) > 3
    for one in rest:
        for other in rest:
            assert one == other or one.cost > other.cost or one.excess > other.excess


def test_a_tier_alone_that_keeps_the_target_at_the_least_cost_ends_the_front() -> None:
    lookup = rising_cascade(3)
    answers = lookup.table.predictions.copy()
    answers[:, 3] = answers[:, -1]  # the middle tier says what the full one says
    lookup = replace(lookup, table=reclassified(lookup.table, predictions=answers))
    ordered = order(lookup, Target("agreement", 0.0), [])
    assert [f.policy for f in ordered] == [FULL, tier_alone(STAGES, 1)]


def test_what_breaks_the_target_on_the_search_rows_is_not_put_to_the_test() -> None:
    lookup = rising_cascade(4)
    policies = [random_policy(seed, routed=False) for seed in range(60)]
    for level in (0.0, 0.1, 0.3):
        target = Target("agreement", level)
        for each in order(lookup, target, policies)[1:]:
            assert each.excess <= 0
    assert [f.policy for f in order(lookup, Target("accuracy", 1.0), policies)] == [FULL]


def test_an_order_does_not_depend_on_how_the_policies_are_given() -> None:
    lookup = rising_cascade(5)
    policies = [random_policy(seed, routed=bool(seed % 2)) for seed in range(80)]
    forth = order(lookup, TARGETS[0], policies)
    assert forth == order(lookup, TARGETS[0], policies[::-1])
    assert forth == order(lookup, TARGETS[0], [f.policy for f in forth])


def test_a_long_front_is_thinned_and_keeps_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = rising_cascade(6, 400)
    monkeypatch.setattr("adaptive.policy.fronts.GAIN", 0.0)
    whole = found_front(lookup, TARGETS[0])
    monkeypatch.setattr("adaptive.policy.fronts.FRONT", 3)
    short = found_front(lookup, TARGETS[0])
    assert len(short) == 3 < len(whole)
    assert (short[0], short[-1]) == (whole[0], whole[-1])
    assert set(short) <= set(whole)


def test_the_same_rows_give_the_same_front() -> None:
    assert found_front(rising_cascade(7), TARGETS[0], routed=True) == found_front(
        rising_cascade(7), TARGETS[0], routed=True
    )
