"""How often a certificate is wrong: never more often than it says, whatever the policies are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_population
from tiny_population import CONDITIONS, COSTS, FULL, Population, answering, certified, most

from adaptive.certificate.certify import certify
from adaptive.policy.fronts import order
from adaptive.policy.lookup import Lookup
from adaptive.policy.targets import excess
from adaptive.policy.worth import classified, reclassified
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Stage, Target

METRICS = ("agreement", "accuracy_drop", "accuracy")
PEOPLE = Population()


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows would be needed is not asked here, and takes most of the time."""
    monkeypatch.setattr("adaptive.certificate.claims.Trial.rows_needed", lambda *given: None)


def wrong_at_the_level(metric: str, draws: int, rows: int, test: str = "betting") -> int:
    """Wrong certificates among draws; the last policies of the front are at the level and past."""
    target = PEOPLE.target(metric, 0.4, 0.9)
    ordered = [FULL, *map(answering, (0.05, 0.3, 0.4, 0.401, 0.42, 0.5))]
    wrong = 0
    for draw in range(draws):
        table = PEOPLE.draw(rows, np.random.default_rng([1, draw]))
        found = certified(ordered, table, target, draw, test=test)
        broken = [PEOPLE.excess(p, target) > -1e-9 for p in found.policies]
        assert broken == sorted(broken)
        wrong += any(broken)
    return wrong


@pytest.mark.parametrize("metric", METRICS)
def test_policies_at_the_level_are_rarely_certified(metric: str) -> None:
    draws = 500
    wrong = wrong_at_the_level(metric, draws, 300)
    assert wrong <= most(0.1, draws)
    assert wrong > 0  # at the level itself the error is used up, nearly


def test_hoeffding_and_bentkus_keep_the_error_too() -> None:
    assert wrong_at_the_level("accuracy_drop", 200, 300, "hoeffding_bentkus") <= most(0.1, 200)


def wrong_with_search(metric: str, draws: int) -> tuple[int, int]:
    target = PEOPLE.target(metric, 0.5, 0.9)
    return tiny_population.wrong_with_search(
        PEOPLE.draw, lambda policy: PEOPLE.excess(policy, target), target, draws, 2
    )


@pytest.mark.parametrize("metric", METRICS)
def test_the_whole_procedure_with_search_is_rarely_wrong(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.policy.search.LEVELS", 12)
    wrong, tempting = wrong_with_search(metric, 150)
    assert wrong <= most(0.1, 150)
    assert tempting > 30  # the search rows alone are often believed wrongly


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_the_whole_procedure_is_rarely_wrong_in_many_draws(metric: str) -> None:
    wrong, _ = wrong_with_search(metric, 2000)
    assert wrong <= most(0.1, 2000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "test"), [*((m, "betting") for m in METRICS), ("accuracy_drop", "hoeffding_bentkus")]
)
def test_policies_at_the_level_are_rarely_certified_in_many_draws(metric: str, test: str) -> None:
    assert wrong_at_the_level(metric, 2000, 500, test) <= most(0.1, 2000)


def lottery(rows: int, rng: np.random.Generator) -> OutcomeTable:
    """Twenty stages that differ from the full tier at random, each in exactly a fifth."""
    stages = tuple(Stage(tier, 0, 0) for tier in range(21))
    differs = rng.random((rows, 21)) < 0.2
    differs[:, -1] = False
    return classified(
        stages,
        differs.astype(np.int32),
        np.ones((rows, 21), np.float32),
        np.zeros((rows, 21), np.float32),
        np.zeros(rows, np.int32),
        np.ones(rows, np.int64),
    )


def test_an_order_taken_from_the_certification_rows_would_be_found_out() -> None:
    """Re-used rows: the luckiest of many policies at the level comes first, and passes."""
    target, full = Target("agreement", 0.2, 0.9), Policy((20,), (*[NEVER] * 20, ALWAYS))
    costs = replace(
        COSTS,
        embed=np.zeros((21, 2)),
        segment=np.tile(np.array([*range(1, 21), 30.0])[:, None], 2),
        head=np.zeros((21, 2)),
    )
    alone = [Policy((k,), tuple(ALWAYS if k == j else NEVER for j in range(21))) for k in range(20)]
    wrong, draws = {"other rows": 0, "the same rows": 0}, 60
    for draw in range(draws):
        rng = np.random.default_rng([3, draw])
        tables = {"other rows": lottery(200, rng), "the same rows": lottery(200, rng)}
        tested = tables["the same rows"]
        for name, table in tables.items():
            lookup = Lookup.of(table, costs.at(table.tokens))
            ordered = [f.policy for f in order(lookup, target, alone)]
            assert ordered[0] == full
            found = certify(ordered, tested, costs, target, 0, CONDITIONS)
            wrong[name] += found.certified > 1
    assert wrong["other rows"] <= most(0.1, draws)
    assert wrong["the same rows"] > 2 * most(0.1, draws)


def routed_table(rows: int, rng: np.random.Generator, router: str) -> OutcomeTable:
    """Hard and easy texts; the cheap stage errs on the hard ones and does not know them."""
    hard = rng.random(rows) < 0.3
    wrong = np.where(hard, rng.random(rows) < 0.5, rng.random(rows) < 0.02)
    risk = {
        "good": hard.astype(float),
        "inverted": 1.0 - hard,
        "constant": np.full(rows, 0.5),
        "random": rng.random(rows),
    }[router]
    table = PEOPLE.draw(rows, rng)
    full = np.zeros(rows, np.int32)
    predictions = np.stack([wrong.astype(np.int32), full], 1)
    table = reclassified(table, predictions=predictions, labels=full)
    return replace(table, risk=np.stack([risk, np.zeros(rows)], 1).astype(np.float32))


@pytest.mark.parametrize("router", ["good", "inverted", "constant", "random"])
def test_a_bad_router_costs_time_and_never_the_promise(router: str) -> None:
    target, draws = Target("agreement", 0.05, 0.9), 60
    family = [
        Policy((0, 1), (1.0 - share, ALWAYS), weight, (1.0, 10.0))
        for share in np.linspace(0.05, 1.0, 20)
        for weight in (5.0, 15.0, 20.0, 100.0)
    ]
    everyone = routed_table(50_000, np.random.default_rng(9), router)
    world = Lookup.of(everyone, COSTS.at(everyone.tokens))
    wrong, costs = 0, []
    for draw in range(draws):
        rng = np.random.default_rng([4, draw])
        seen, unseen = (routed_table(rows, rng, router) for rows in (300, 600))
        lookup = Lookup.of(seen, COSTS.at(seen.tokens))
        ordered = [f.policy for f in order(lookup, target, family)]
        served = certified(ordered, unseen, target).policy
        result = world.evaluate(served)
        wrong += excess(target, result, everyone).mean() > 0.001
        costs.append(result.cost.mean())
    assert wrong <= most(0.1, draws)
    assert (np.mean(costs) < 7.0) == (router == "good"), np.mean(costs)
