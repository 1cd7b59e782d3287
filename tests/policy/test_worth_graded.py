"""Graded answers of models that cost dollars are searched and certified without a model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tiny_models import MAX_TOKENS, PRICES, STAGES, models_table
from tiny_outcomes import random_costs, random_table

from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.bundle.page import render_certificate
from adaptive.certificate.certify import certify
from adaptive.certificate.promises import Certificate, Conditions
from adaptive.errors import BundleError, DataError, TargetError
from adaptive.policy.costs import CostTable
from adaptive.policy.fronts import front
from adaptive.policy.lookup import Lookup, evaluate, predicted, tier_alone, useful_tiers
from adaptive.policy.prices import Price, Recorded
from adaptive.policy.search import search
from adaptive.policy.targets import excess, loss, quality
from adaptive.policy.worth import concatenate, graded, lost
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Stage, Target

CONDITIONS = Conditions("cpu", "float32", 400, "0" * 64, {"python": "3"})
LONGEST = CONDITIONS.max_length
FULL = tier_alone(STAGES, 3)
DROP = Target("score_drop", 0.05, 0.9)


@cache
def certified(target: Target) -> tuple[Certificate, OutcomeTable]:
    """Searched on some texts and certified on others."""
    seen, unseen = (models_table(rows, np.random.default_rng([5, rows])) for rows in (700, 2_500))
    lookup = Lookup.of(seen, PRICES.of(seen))
    found = search(lookup, target, margin=0.5, sweeps=1, routed=True)
    policies = [f.policy for f in front(lookup, target, found, sweeps=1)]
    return certify(policies, unseen, PRICES, target, 0, CONDITIONS), unseen


def test_a_drop_in_score_is_certified_at_a_part_of_the_dollars() -> None:
    certificate, table = certified(DROP)
    assert certificate.verdict == "CERTIFIED" and certificate.unit == "dollars"
    assert [claim.test for claim in certificate.claims] == ["betting"]
    costs = PRICES.of(table)
    served, full = (evaluate(each, table, costs) for each in (certificate.policy, FULL))
    assert served.cost.mean() < 0.8 * full.cost.mean()
    many = models_table(30_000, np.random.default_rng(6))
    prices = PRICES.of(many)
    for policy in certificate.policies:
        assert excess(DROP, evaluate(policy, many, prices), many).mean() < 0.0
    page = render_certificate(certificate, "models", ["embedding", "s", "m", "l"], STAGES)
    assert "at most 5.00% of the full tier's score lost" in page and "dollars" in page


def test_a_budget_of_dollars_tells_what_is_lost_at_most() -> None:
    full = evaluate(FULL, models_table(700, np.random.default_rng([5, 700])), _prices(700))
    budget = Target("dollars", 0.7 * float(full.cost.mean()), 0.9)
    certificate, table = certified(budget)
    assert certificate.certified > 1 and certificate.quality is not None
    assert certificate.quality.metric == "score_drop"
    costs = PRICES.of(table)
    lost_really = loss(evaluate(certificate.policy, table, costs), table)
    assert lost_really < certificate.quality.level < 0.5
    assert 0 not in certificate.policy.path


def _prices(rows: int):  # type: ignore[no-untyped-def]
    return PRICES.of(models_table(rows, np.random.default_rng([5, rows])))


def test_a_first_tier_that_answers_nothing_is_on_no_path_and_its_router_still_chooses() -> None:
    table = models_table(400, np.random.default_rng(1))
    assert useful_tiers(table) == (1, 2, 3)
    costs = PRICES.of(table)
    lookup = Lookup.of(table, costs)
    for found in search(lookup, DROP, margin=0.0, sweeps=1, routed=True):
        assert 0 not in found.policy.path
    policy = Policy((1, 3), (NEVER, 0.6, NEVER, ALWAYS), 0.002, (0.0, 0.0, 0.0, 0.001))
    result = evaluate(policy, table, costs)
    above = result.entry == 3
    assert 0 < above.sum() < len(table)
    np.testing.assert_allclose(result.cost[above], costs.segment[above, 3])  # one paid call
    passed_on = (result.entry == 1) & (result.stage == 3)
    assert passed_on.any()  # these pay for both
    both = costs.segment[passed_on][:, [1, 3]].sum(1)
    np.testing.assert_allclose(result.cost[passed_on], both)


def test_a_mean_cost_without_a_ceiling_has_no_certificate() -> None:
    table = models_table(300, np.random.default_rng(2))
    endless = replace(PRICES, stages=(*PRICES.stages[:-1], Price(2.5, 10.0)))
    slow = Recorded("milliseconds", tiers=4)
    for costs, target in (
        (endless, Target("dollars", 0.01)),
        (slow, Target("milliseconds", 1_500.0)),
    ):
        with pytest.raises(TargetError, match=r"nothing bounds what one text can cost.*max_tokens"):
            certify([FULL], table, costs, target, 0, CONDITIONS)
    found = certify([FULL], table, endless, DROP, 0, CONDITIONS)  # needs none
    assert found.certified == 1
    capped = replace(slow, cap=(1.0, 700.0, 2_000.0, 3_000.0))
    found = certify([FULL], table, capped, Target("milliseconds", 2_000.0), 0, CONDITIONS)
    assert found.certified == 1 and found.claims[0].test == "betting"


def test_prices_by_hand_and_their_dearest_call() -> None:
    table = models_table(3, np.random.default_rng(3))
    assert table.usage is not None
    given, written = table.usage.tokens_in, table.usage.tokens_out
    assert given is not None and written is not None
    found = PRICES.of(table).segment
    np.testing.assert_allclose(found[:, 0], 0.0)
    np.testing.assert_allclose(
        found[:, 3], (2.5 * given[:, 3] + 10.0 * written[:, 3]) / 1e6 + 0.0001
    )
    cached = replace(table, usage=replace(table.usage, tokens_cached=given - 5))
    halved = replace(PRICES, stages=(*PRICES.stages[:-1], Price(2.5, 10.0, cached=1.0)))
    np.testing.assert_allclose(
        halved.of(cached).segment[:, 3],
        (2.5 * 5 + 1.0 * (given[:, 3] - 5) + 10.0 * written[:, 3]) / 1e6,
    )
    most = PRICES.most(LONGEST)
    assert most is not None
    dearest = (2.5 * LONGEST + 10.0 * MAX_TOKENS) / 1e6 + 0.0001
    np.testing.assert_allclose(most.segment[0, 3], dearest)


def test_costs_that_were_not_recorded_or_are_above_their_cap_are_told() -> None:
    table = models_table(5, np.random.default_rng(4))
    assert table.usage is not None and table.usage.tokens_out is not None
    written = table.usage.tokens_out.copy()
    written[2, 1] = MAX_TOKENS + 1
    with pytest.raises(DataError, match="text 2 took 301 tokens of an answer at stage 1"):
        PRICES.of(replace(table, usage=replace(table.usage, tokens_out=written)))
    with pytest.raises(DataError, match=r"need the table's `usage\.tokens_in`"):
        PRICES.of(replace(table, usage=None))
    with pytest.raises(DataError, match=r"`usage\.dollars`, found none"):
        Recorded("dollars", 4).of(table)
    long = replace(table.usage, tokens_out=np.full((5, 4), MAX_TOKENS))
    with pytest.raises(TargetError, match="longer than 10 tokens"):
        short, full = replace(CONDITIONS, max_length=10), replace(table, usage=long)
        certify([FULL], full, PRICES, Target("dollars", 0.1), 0, short)


@pytest.mark.parametrize("metric", ["score_drop", "agreement", "score"])
def test_graded_answers_at_the_level_are_rarely_certified(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheap stage loses just what the level allows, so to certify it is wrong."""
    monkeypatch.setattr("adaptive.certificate.claims.Trial.rows_needed", lambda *given: None)
    level, delta, draws, rows, wrong = 0.1, 0.1, 250, 200, 0
    stages = (Stage(0, 0, 0), Stage(1, 0, 0))
    flat = np.ones((2, 2))
    costs = CostTable("work", np.array([0.0, 1.0]), 0 * flat, flat, 0 * flat, np.zeros(2))
    allowed = 0.8 * (1.0 - level) if metric == "score" else level
    target = Target(metric, allowed, 1.0 - delta)
    alone = [tier_alone(stages, tier) for tier in (1, 0)]
    for draw in range(draws):
        rng = np.random.default_rng([7, draw])
        held = rng.beta(8.0, 2.0, rows)  # 0.8 in the mean
        kept = 1.0 - rng.beta(0.1, 0.1 * (1.0 - level) / level, rows)
        alike = np.stack([kept, np.ones(rows)], 1)
        table = OutcomeTable(
            stages,
            graded(held[:, None] * alike, alike),
            np.ones((rows, 2), np.float32),
            np.zeros((rows, 2), np.float32),
            np.ones(rows, np.int64),
        )
        if metric == "score":  # the full tier may miss it too: the cheap one is tested by itself
            table, front_ = replace(table, worth=replace(table.worth, own=False)), alone[1:]
        else:
            front_ = alone
        found = certify(front_, table, costs, target, draw, CONDITIONS)
        wrong += found.certified == len(front_)
    assert 0 < wrong <= draws * delta + 3 * np.sqrt(draws * delta * (1 - delta))


def test_scores_of_0_and_1_have_the_exact_tests_whatever_they_are_called() -> None:
    table = random_table(3, 400)
    plain = replace(table, classes=None)
    costs = random_costs(3, 400)
    results = [
        Lookup.of(each, costs).evaluate(tier_alone(table.stages, 1)) for each in (table, plain)
    ]
    for metric, other in (("accuracy", "score"), ("accuracy_drop", "score_drop")):
        first, second = Target(metric, 0.3), Target(other, 0.3)
        np.testing.assert_array_equal(
            excess(first, results[0], table), excess(second, results[1], plain)
        )
    assert plain.worth.exact and quality(plain).metric == "accuracy_drop"
    with pytest.raises(ValueError, match="holds no classes"):
        predicted(results[1], plain)


def test_what_is_lost_is_nothing_where_answers_are_alike_and_unknown_where_no_score_tells() -> None:
    score = [[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan], [np.nan, np.nan]]
    worth = graded(score, [[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    table = replace(models_table(4, np.random.default_rng(0)), worth=worth, stages=STAGES[:2])
    table = replace(table, reliability=table.reliability[:, :2], risk=table.risk[:, :2])
    first = Policy((0,), (ALWAYS, NEVER))
    costs = replace(random_costs(0, 4), embed=np.zeros((4, 2)), segment=np.zeros((4, 2)))
    result = evaluate(first, table, replace(costs, head=np.zeros((4, 2))))
    np.testing.assert_array_equal(lost(result, worth), [-1.0, 1.0, 0.0, np.nan])
    with pytest.raises(ValueError, match="needs labels"):
        excess(Target("score_drop", 0.1), result, table)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (([0.5, 1.0],), "must be"),
        (([[0.5, 1.2]],), "lie in"),
        (([[0.5, np.nan]],), "text 0: some of its scores"),
        (([[np.nan, np.nan]],), "`alike`"),
        (([[0.5, 1.0]], [[0.5]]), "`alike` must be"),
        (([[0.5, 1.0]], None, [1.0, 1.0]), r"\[2\] reference scores for 1"),
    ],
)
def test_scores_that_cannot_be_are_refused(given: tuple[object, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        graded(*given)  # type: ignore[arg-type]


def test_graded_tables_go_through_files_and_pieces(tmp_path: Path) -> None:
    table, path = models_table(20, np.random.default_rng(8)), tmp_path / "models.safetensors"
    halves = [table.take(slice(0, 8)), table.take(slice(8, None))]
    for each in (table, concatenate(halves)):
        save_outcomes(each, path)
        found = load_outcomes(path, STAGES, "x")
        assert not found.worth.exact and found.worth.own and found.classes is None
        for name in ("score", "alike", "reference"):
            np.testing.assert_array_equal(getattr(found.worth, name), getattr(table.worth, name))
        np.testing.assert_array_equal(PRICES.of(found).segment, PRICES.of(table).segment)
    right = (table.worth.score > 0.5).astype(np.float32)
    mixed = [replace(halves[0], worth=graded(right[:8])), halves[1]]
    assert mixed[0].worth.exact and not concatenate(mixed).worth.exact
    broken = replace(table, worth=replace(table.worth, score=table.worth.score + 1.0))
    save_outcomes(broken, path)
    with pytest.raises(BundleError, match="must lie in"):
        load_outcomes(path, STAGES, "x")
