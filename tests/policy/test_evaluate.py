"""What a policy would have done, against a walk through the cascade one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_outcomes import DEPTHS, STAGES, random_costs, random_policy, random_table, saying

from adaptive.policy.lookup import (
    evaluate,
    is_bare,
    last_exits,
    single_stage,
    tier_alone,
)
from adaptive.policy.targets import excess, mean_excess
from adaptive.policy.worth import classified
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, StageCosts, Target


def walk(
    policy: Policy, table: OutcomeTable, costs: StageCosts, row: int
) -> tuple[int, int, float]:
    """Stage, entry and cost of one text, as the definition of a policy reads."""
    prices = [
        policy.entry_cost[tier] + policy.risk_weight * float(table.risk[row, tier])
        if policy.risk_weight is not None
        else tier
        for tier in policy.path
    ]
    entry = policy.path[int(np.argmin(prices))]
    on = [k for k, threshold in enumerate(policy.thresholds) if threshold != NEVER]
    bare = len(on) == 1 and policy.risk_weight is None
    cost = float(costs.router[row]) if policy.risk_weight is not None else 0.0
    if entry != 0 and not bare:  # the anchor speaks to everybody
        cost += float(costs.embed[row, 0] + costs.segment[row, 0] + costs.head[row, 0])
    for tier in policy.path:
        if tier < entry:
            continue
        cost += float(costs.embed[row, tier])
        inside = [k for k, stage in enumerate(STAGES) if stage.tier == tier]
        for k in inside:
            cost += float(costs.segment[row, k])
            if k in on or not bare:
                cost += float(costs.head[row, k])
            if k in on:
                sure = table.reliability[row, k] >= np.float32(policy.thresholds[k])
                if sure or k == on[-1]:
                    return k, entry, cost
                if k == max(set(on) & set(inside)):
                    break
    raise AssertionError("nothing answered")


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_a_policy_does_to_each_text_what_a_walk_through_the_cascade_does(
    seed: int, routed: bool
) -> None:
    table, costs = random_table(seed), random_costs(seed + 1)
    policy = random_policy(seed + 2, routed=routed)
    found = evaluate(policy, table, costs)
    for row in range(len(table)):
        stage, entry, cost = walk(policy, table, costs, row)
        assert (found.stage[row], found.entry[row]) == (stage, entry)
        assert found.score[row] == (table.predictions[row, stage] == table.labels[row])
        assert found.alike[row] == (table.predictions[row, stage] == table.predictions[row, -1])
        assert found.cost[row] == pytest.approx(cost)


def test_the_random_policies_differ_enough_to_prove_something() -> None:
    policies = [random_policy(seed, routed=routed) for seed in range(40) for routed in (0, 1)]
    assert {policy.path for policy in policies} >= {(0,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    assert any(ALWAYS in policy.thresholds for policy in policies)
    assert any(is_bare(policy) for policy in policies)


def test_a_bare_policy_pays_one_head_and_no_second_opinion() -> None:
    table, costs = random_table(0), random_costs(0)
    policy = tier_alone(STAGES, 2)
    assert is_bare(policy) and policy.path == (2,)
    found = evaluate(policy, table, costs)
    assert (found.stage == 7).all() and (found.entry == 2).all()
    whole = costs.embed[:, 2] + costs.segment[:, 4:].sum(1) + costs.head[:, 7]
    np.testing.assert_allclose(found.cost, whole)


def test_a_single_early_stage_answers_everything() -> None:
    table, costs = random_table(1), random_costs(1)
    found = evaluate(single_stage(STAGES, 2), table, costs)
    assert (found.stage == 2).all()
    expected = costs.embed[:, 1] + costs.segment[:, 1] + costs.segment[:, 2] + costs.head[:, 2]
    np.testing.assert_allclose(found.cost, expected)


def test_a_router_makes_even_one_stage_pay_for_the_anchor_and_for_routing() -> None:
    table, costs = random_table(2), random_costs(2)
    alone = tier_alone(STAGES, 2)
    routed = Policy(alone.path, alone.thresholds, 1.0, (0.0,) * len(DEPTHS))
    anchor = costs.embed[:, 0] + costs.segment[:, 0] + costs.head[:, 0]
    heads = costs.head[:, 4:7].sum(1)  # they run for what the last exit looks back at
    extra = evaluate(routed, table, costs).cost - evaluate(alone, table, costs).cost
    np.testing.assert_allclose(extra, anchor + heads + costs.router)


def test_a_text_enters_where_price_and_risk_are_least() -> None:
    table, costs = random_table(3, rows=3), random_costs(3, rows=3)
    risk = np.array([[0.0, 0.9, 0.9], [0.5, 0.1, 0.0], [0.9, 0.9, 0.0]], dtype=np.float32)
    table = classified(
        table.stages, table.predictions, table.reliability, risk, table.labels, table.tokens
    )
    policy = Policy((0, 1, 2), (0.5,) * len(STAGES), 1.0, (0.0, 0.1, 0.5))
    assert evaluate(policy, table, costs).entry.tolist() == [0, 1, 2]
    unafraid = Policy((0, 1, 2), (0.5,) * len(STAGES), 0.0, (0.0, 0.1, 0.5))
    assert evaluate(unafraid, table, costs).entry.tolist() == [0, 0, 0]


def test_a_reliability_equal_to_the_threshold_is_enough() -> None:
    table, costs = random_table(4), random_costs(4)
    third = float(table.reliability[3, 0])
    thresholds = (third,) + (NEVER,) * 6 + (0.0,)
    assert evaluate(Policy((0, 2), thresholds), table, costs).stage[3] == 0


def test_policies_that_do_not_fit_the_cascade_are_refused() -> None:
    with pytest.raises(ValueError, match="2 thresholds, the cascade 8 stages"):
        last_exits(Policy((0,), (0.5, 0.5)), STAGES)
    with pytest.raises(ValueError, match=r"path is \(0, 2\), its exits are on tiers \[2\]"):
        last_exits(Policy((0, 2), tier_alone(STAGES, 2).thresholds), STAGES)


def labelled(full: list[int], labels: list[int]) -> OutcomeTable:
    predictions = np.zeros((len(full), len(STAGES)), dtype=np.int32)
    predictions[:, -1] = full
    table = random_table(0, rows=len(full))
    return classified(
        STAGES, predictions, table.reliability, table.risk, np.array(labels, np.int32), table.tokens
    )


FULL, LABELS, GIVEN = [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # unlike the full tier on the second and third text
        (Target("agreement", 0.25), [-0.25, 0.75, 0.75, -0.25]),
        # right on the first and third
        (Target("accuracy", 0.75), [-0.25, 0.75, -0.25, 0.75]),
        # the full tier is right on the first two; the third is a credit
        (Target("accuracy_drop", 0.1), [-0.1, 0.9, -1.0, 0.0]),
    ],
    ids=lambda value: value.metric if isinstance(value, Target) else "",
)
def test_excess_of_each_text_by_hand(target: Target, expected: list[float]) -> None:
    table = labelled(FULL, LABELS)
    found = excess(target, saying(GIVEN, table), table)
    np.testing.assert_allclose(found, expected)


def test_agreement_needs_no_labels_and_the_others_say_that_they_do() -> None:
    table = labelled(FULL, [0, 1, -1, 1])
    assert len(excess(Target("agreement", 0.0), saying(GIVEN, table), table)) == 4
    for metric in ("accuracy", "accuracy_drop"):
        with pytest.raises(ValueError, match="needs labels; `agreement` needs none"):
            excess(Target(metric, 0.1), saying(GIVEN, table), table)


def test_a_margin_asks_for_standard_errors_to_spare() -> None:
    known = labelled(FULL, LABELS)
    # two of four differ, so excesses of +-0.5 around their mean
    means, errors = mean_excess([Target("agreement", 0.6)], saying(GIVEN, known), known)
    np.testing.assert_allclose(means, [-0.1])
    np.testing.assert_allclose(errors, [0.5 / 2])
