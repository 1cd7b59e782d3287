"""The search for policies: what it finds keeps the target and is worth finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_outcomes import STAGES, random_costs, random_table

from adaptive.bundle.contents import stages_of
from adaptive.policy.lookup import Evaluation, Lookup, tier_alone
from adaptive.policy.search import Found, refine, search, shared_thresholds
from adaptive.policy.targets import excess
from adaptive.policy.worth import classified, reclassified
from adaptive.types import ALWAYS, NEVER, Policy, StageCosts, Target

TARGETS = [Target("agreement", 0.2), Target("accuracy_drop", 0.1), Target("accuracy", 0.6)]


def made_up(reliability: list[np.ndarray], good: list[np.ndarray], prices: list[float]) -> Lookup:
    """One tier a column, one exit each; the full tier is right, others where `good` says."""
    count = len(reliability)
    stages = stages_of(((0,),) * count)
    rows = len(reliability[0])
    labels = np.arange(rows, dtype=np.int32) % 2
    predictions = np.stack([np.where(each, labels, 1 - labels) for each in good], 1)
    table = classified(
        stages,
        predictions.astype(np.int32),
        np.stack(reliability, 1).astype(np.float32),
        np.zeros((rows, count), np.float32),
        labels,
        np.full(rows, 8),
    )
    nothing = np.zeros((rows, count))
    costs = StageCosts(
        "coins", np.tile(np.asarray(prices), (rows, 1)), nothing, nothing, np.zeros(rows)
    )
    return Lookup.of(table, costs)


def learnable(seed: int, rows: int = 300) -> Lookup:
    """A cascade whose later stages are better and dearer, sure where they are right."""
    rng = np.random.default_rng(seed)
    table, costs = random_table(seed, rows), random_costs(seed, rows)
    skill = np.linspace(0.6, 0.95, len(STAGES))
    right = rng.random((rows, len(STAGES))) < skill
    predictions = np.where(right, table.labels[:, None], (table.labels[:, None] + 1) % 3)
    sure = np.clip(0.35 + 0.4 * right + rng.normal(0, 0.15, right.shape), 0, 1)
    table = reclassified(table, predictions=predictions.astype(np.int32))
    table = replace(table, reliability=sure.astype(np.float32))
    prices = np.array([0.1, 1, 3, 3, 1, 8, 8, 8])
    return Lookup.of(table, replace(costs, segment=costs.segment * prices))


def cost_of(lookup: Lookup, policy: Policy) -> float:
    return float(lookup.evaluate(policy).cost.mean())


def bound(target: Target, result: Evaluation, lookup: Lookup, margin: float = 0.0) -> float:
    """Mean excess plus so many standard errors."""
    values = excess(target, result, lookup.table)
    return float(values.mean() + margin * values.std() / np.sqrt(len(values)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.metric)
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.0])
def test_everything_found_keeps_the_target_and_tells_its_true_cost(
    target: Target, margin: float
) -> None:
    for seed in range(2):
        lookup = learnable(seed)
        found = search(lookup, target, margin=margin, sweeps=2, routed=bool(seed))
        full = tier_alone(STAGES, 2)
        for each in found:
            result = lookup.evaluate(each.policy)
            assert each.cost == pytest.approx(result.cost.mean())
            assert each.excess == pytest.approx(bound(target, result, lookup, margin))
            assert each.excess <= 0.0 or each.policy == full
        assert [f.cost for f in found] == sorted(f.cost for f in found)
        assert any(f.policy == full for f in found)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.metric)
def test_the_cheapest_found_is_no_dearer_than_any_stage_alone_that_keeps_the_target(
    target: Target,
) -> None:
    lookup = learnable(2)
    best = search(lookup, target, margin=1.0, sweeps=2, routed=False)[0]
    for tier in range(3):
        alone = tier_alone(STAGES, tier)
        result = lookup.evaluate(alone)
        if bound(target, result, lookup, 1.0) <= 0.0:
            assert best.cost <= result.cost.mean()
    assert best.cost < 0.8 * cost_of(lookup, tier_alone(STAGES, 2))


def test_a_known_optimum_is_found() -> None:
    rows = 200
    easy = np.arange(rows) % 5 < 3
    lookup = made_up(
        [np.where(easy, 0.9, 0.2), np.full(rows, 0.99)], [easy, np.full(rows, True)], [1.0, 10.0]
    )
    best = search(lookup, Target("agreement", 0.0), margin=1.0, sweeps=3, routed=False)[0]
    assert best.policy.path == (0, 1)
    assert 0.2 < best.policy.thresholds[0] <= np.float32(0.9)
    assert best.cost == pytest.approx(1.0 + 0.4 * 10.0)


def test_it_is_as_good_as_trying_every_pair_of_thresholds() -> None:
    rng = np.random.default_rng(0)
    rows = 60
    sure = [rng.random(rows) for _ in range(3)]
    good = [rng.random(rows) < 0.3 + 0.7 * sure[0], rng.random(rows) < 0.5 + 0.5 * sure[1]]
    lookup = made_up(sure, [*good, np.full(rows, True)], [1.0, 4.0, 10.0])
    target = Target("agreement", 0.1)
    best = search(lookup, target, margin=0.0, sweeps=8, routed=False)[0]
    grids = [
        [*np.unique(np.quantile(lookup.table.reliability[:, k], np.arange(24) / 24))]
        for k in range(2)
    ]
    least = np.inf
    for first in grids[0]:
        for second in grids[1]:
            policy = Policy((0, 1, 2), (float(first), float(second), ALWAYS))
            result = lookup.evaluate(policy)
            if bound(target, result, lookup) <= 0.0:
                least = min(least, float(result.cost.mean()))
    assert best.cost <= least * 1.05


def test_it_beats_one_shared_threshold_where_the_stages_scales_differ() -> None:
    rows = 300
    rng = np.random.default_rng(1)
    first, second = 0.3 + 0.3 * rng.random(rows), 0.9 + 0.1 * rng.random(rows)
    lookup = made_up(
        [first, second, np.full(rows, 0.99)],
        [first > 0.45, second > 0.97, np.full(rows, True)],
        [1.0, 5.0, 20.0],
    )
    target = Target("agreement", 0.01)
    shared = [
        Found(policy, cost_of(lookup, policy), 0.0)
        for value in np.unique(lookup.table.reliability)
        for policy in [shared_thresholds(lookup.table.stages, (0, 1, 2), float(value))]
        if bound(target, lookup.evaluate(policy), lookup) <= 0.0
    ]
    best = search(lookup, target, margin=0.0, sweeps=4, routed=False)[0]
    assert best.cost < 0.8 * min(f.cost for f in shared)


def test_moving_two_thresholds_at_once_finds_what_one_at_a_time_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def costs() -> list[float]:
        target = Target("agreement", 0.2)
        return [
            search(learnable(seed), target, margin=1.0, sweeps=4, routed=False)[0].cost
            for seed in range(10, 13)
        ]

    both = costs()
    monkeypatch.setattr("adaptive.policy.search.Judge._trades", lambda self, policy: [])
    single = costs()
    assert sum(both) < 0.99 * sum(single)


def test_an_exit_that_is_never_worth_its_price_is_switched_off() -> None:
    rows = 200
    useless = np.full(rows, False)
    easy = np.arange(rows) % 2 == 0
    lookup = made_up(
        [np.where(easy, 0.9, 0.2), np.full(rows, 0.5), np.full(rows, 0.99)],
        [easy, useless, np.full(rows, True)],
        [1.0, 5.0, 10.0],
    )
    best = search(lookup, Target("agreement", 0.0), margin=0.0, sweeps=3, routed=False)[0]
    assert best.policy.path == (0, 2)
    assert best.policy.thresholds[1] == NEVER


def test_a_router_that_knows_pays_and_one_that_guesses_does_not() -> None:
    rows = 300
    easy = np.arange(rows) % 2 == 0
    # The middle tier helps with the easy half, but does not itself know which half that is.
    lookup = made_up(
        [np.full(rows, 0.01), np.full(rows, 0.5), np.full(rows, 0.99)],
        [np.full(rows, False), easy, np.full(rows, True)],
        [0.1, 4.0, 10.0],
    )
    hard = np.stack([np.ones(rows), ~easy, np.zeros(rows)], 1).astype(np.float32)
    knowing = replace(lookup, table=replace(lookup.table, risk=hard))
    target = Target("agreement", 0.0)
    plain = search(knowing, target, margin=0.0, sweeps=2, routed=False)
    assert all(f.policy.risk_weight is None for f in plain)
    assert plain[0].cost == pytest.approx(10.0)
    best = search(knowing, target, margin=0.0, sweeps=2, routed=True)[0]
    assert best.policy.risk_weight is not None
    # half the texts go to the middle tier, half straight to the full one, all past the anchor
    assert best.cost == pytest.approx(0.1 + 0.5 * 4.0 + 0.5 * 10.0)
    assert set(knowing.evaluate(best.policy).entry.tolist()) == {1, 2}
    guess = np.random.default_rng(0).random((rows, 3)).astype(np.float32)
    guessing = replace(lookup, table=replace(lookup.table, risk=guess))
    assert search(guessing, target, margin=0.0, sweeps=2, routed=True)[0] == plain[0]


def test_the_same_table_gives_the_same_policies() -> None:
    first, second = (
        search(learnable(3), TARGETS[0], margin=1.0, sweeps=2, routed=True) for _ in range(2)
    )
    assert first == second


def test_the_full_tier_alone_is_found_even_where_nothing_keeps_the_target() -> None:
    lookup = learnable(4)
    found = search(lookup, Target("accuracy", 1.0), margin=1.0, sweeps=2, routed=False)
    assert [f.policy for f in found] == [tier_alone(STAGES, 2)]
    assert found[0].excess > 0


def test_refining_keeps_the_entry_rule_and_never_costs_more() -> None:
    lookup = learnable(5)
    target = Target("agreement", 0.3)
    thresholds = tuple(0.8 for _ in STAGES)
    start = Policy((0, 1, 2), thresholds, 3.0, (1.0, 4.0, 12.0))
    found = refine(lookup, target, start, margin=0.0, sweeps=3)
    assert found is not None
    assert (found.policy.risk_weight, found.policy.entry_cost) == (3.0, (1.0, 4.0, 12.0))
    assert found.policy.path == (0, 1, 2)
    result = lookup.evaluate(found.policy)
    assert bound(target, result, lookup) <= 0.0
    before = lookup.evaluate(start)
    assert bound(target, before, lookup) <= 0.0
    assert found.cost < before.cost.mean()


def test_refining_gives_up_where_the_path_cannot_keep_the_target() -> None:
    lookup = learnable(6)
    start = Policy((0,), (0.5, *[NEVER] * 7))
    assert refine(lookup, Target("agreement", 0.0), start, margin=0.0, sweeps=2) is None


@pytest.mark.parametrize("routed", [False, True])
def test_no_path_has_a_tier_that_a_cheaper_one_is_better_than(routed: bool) -> None:
    lookup = learnable(3)
    table = lookup.table
    last = {s.tier: k for k, s in enumerate(table.stages)}
    middle = sorted(last)[1]
    predictions = table.predictions.copy(order="F")
    predictions[:, last[middle]] = (table.labels + 1) % 3
    spoilt = replace(lookup, table=reclassified(table, predictions=predictions))
    target = Target("accuracy_drop", 0.1, 0.95)
    found = search(spoilt, target, margin=0.0, sweeps=2, routed=routed)
    assert len(found) > 1
    assert not any(middle in each.policy.path for each in found)
    whole = search(lookup, target, margin=0.0, sweeps=2, routed=routed)
    assert any(middle in each.policy.path for each in whole)
