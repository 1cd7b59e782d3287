"""Costs as the promise: the budget holds, and the best policy that it allows answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_population
from tiny_outcomes import DEPTHS, random_costs, random_policy, random_table, rising_cascade, saying
from tiny_outcomes import STAGES as EIGHT
from tiny_population import CHEAP, COSTS, FULL, STAGES, Population, answering, certified, most

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.page import render_certificate
from adaptive.certificate.claims import bound_loss
from adaptive.certificate.promises import Certificate
from adaptive.errors import BundleError, TargetError
from adaptive.policy.costs import MILLISECONDS, WORK
from adaptive.policy.fronts import front, order
from adaptive.policy.lookup import Lookup, dearest, evaluate, is_bare, single_stage, tier_alone
from adaptive.policy.search import search
from adaptive.policy.targets import excess, loss, seeks_quality
from adaptive.policy.worth import reclassified
from adaptive.types import OutcomeTable, Policy, Target

PEOPLE = Population()
KEEN = Population(better=0.0)  # every text that the cheap stage answers costs quality
METRICS = ("milliseconds", "text_cost")
BUDGET = PEOPLE.target("milliseconds", 0.4, 0.9)  # 7 milliseconds
TEXT_COST = PEOPLE.target("text_cost", 0.4, 0.9)  # six of ten texts above 5 milliseconds


def table(rows: int = 2000, seed: int = 0, people: Population = PEOPLE) -> OutcomeTable:
    return people.draw(rows, np.random.default_rng([31, seed]))


def looked_up(rows: OutcomeTable) -> Lookup:
    return Lookup.of(rows, COSTS.at(rows.tokens))


def cheap_to_good(*shares: float) -> list[Policy]:
    return [CHEAP, *map(answering, shares)]


def test_excess_of_each_text_by_hand() -> None:
    rows = table(4)
    result = saying([0, -1, 1, 1], rows, [1.0, 2.0, 3.0, 4.0])  # one left to a person
    budget = excess(Target("milliseconds", 2.0), result, rows)
    assert budget.tolist() == excess(Target("work", 2.0), result, rows).tolist()
    assert budget.tolist() == [-0.5, 0.0, 0.5, 1.0]
    slow = excess(Target("text_cost", 0.25, bound=2.0), result, rows)
    assert slow.tolist() == [-0.25, -0.25, 0.75, 0.75]


def test_a_loss_is_the_least_level_that_the_rows_would_keep() -> None:
    rows = table(500)
    result = looked_up(rows).evaluate(answering(0.7))
    unlabelled = reclassified(rows, labels=np.full(500, -1, np.int32))
    for metric, known in (("accuracy_drop", rows), ("agreement", unlabelled)):
        lost = loss(result, known)
        target = Target(metric, lost)  # type: ignore[arg-type]
        assert lost > 0.0 and excess(target, result, known).mean() == pytest.approx(0.0)
    half = replace(result, answered=np.arange(500) % 2 == 1)
    whole = rows.take(np.arange(1, 500, 2))
    assert loss(half, rows) == pytest.approx(loss(result.take(np.arange(1, 500, 2)), whole))


@pytest.mark.parametrize("seed", range(20))
def test_no_text_costs_more_than_the_dearest(seed: int) -> None:
    rows, costs = random_table(seed, 300), random_costs(seed, 300)
    policies = [random_policy(seed + 7 * n, routed=bool(n % 2)) for n in range(6)]
    ceilings = dearest(policies, EIGHT, costs)
    for policy, ceiling in zip(policies, ceilings.tolist(), strict=True):
        assert evaluate(policy, rows, costs).cost.max() <= ceiling
        unsure = replace(rows, reliability=np.full_like(rows.reliability, -1.0))
        risk = np.ones((300, len(DEPTHS)), np.float32)
        risk[:, policy.path[0]] = -1e9
        reached = evaluate(policy, replace(unsure, risk=risk), costs).cost.max()
        least = 0.0 if all(t > -1.0 for t in policy.thresholds) else -np.inf
        assert reached <= ceiling and (least or reached == pytest.approx(ceiling))


def test_costs_alone_make_quality_the_aim() -> None:
    drop, unanswered = Target("accuracy_drop", 0.1), Target("abstention", 0.1)
    assert all(map(seeks_quality, ([BUDGET], [BUDGET, TEXT_COST], [unanswered, TEXT_COST])))
    assert not any(map(seeks_quality, ([BUDGET, drop], [drop], [unanswered])))


@pytest.mark.parametrize("target", [Target("work", 3.0), [BUDGET, Target("work", 3.0)]])
def test_another_unit_than_the_costs_is_told(target: Target | list[Target]) -> None:
    rows = table(50)
    told = r"the target 'work' is in layers x tokens, and the costs are in milliseconds; name"
    if isinstance(target, list):
        target = [replace(each, confidence=0.9) for each in target]
    with pytest.raises(TargetError, match=told):
        certified([CHEAP], rows, target)
    with pytest.raises(TargetError, match=told):
        search(looked_up(rows), target, margin=0.0, sweeps=1, routed=False)


def dear(seed: int) -> Lookup:
    return replace(rising_cascade(seed, 400), unit=MILLISECONDS)


@pytest.mark.parametrize("routed", [False, True])
def test_a_budgets_front_goes_from_the_cheapest_stage_to_the_best_policy(routed: bool) -> None:
    lookup = dear(0)
    alone = [lookup.evaluate(single_stage(EIGHT, k)).cost.mean() for k in range(len(EIGHT))]
    target = Target("milliseconds", 1.5)
    found = search(lookup, target, margin=1.0, sweeps=1, routed=routed)
    ordered = front(lookup, target, found, sweeps=1)
    assert ordered[0].policy == single_stage(EIGHT, int(np.argmin(alone)))
    assert len(ordered) > 4 and not is_bare(ordered[-1].policy)
    costs, losses = [f.cost for f in ordered], [f.loss for f in ordered]
    assert costs == sorted(costs) and costs[-1] <= 1.5
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] <= found[0].loss == min(f.loss for f in found)
    for each in ordered:
        result = lookup.evaluate(each.policy)
        assert each.excess == pytest.approx(each.cost / 1.5 - 1.0)
        assert each.loss == pytest.approx(max(loss(result, lookup.table), 0.5 / 400))
    # more money, better answers
    rich = search(lookup, Target("milliseconds", 2.0), margin=1.0, sweeps=1, routed=routed)
    assert rich[0].loss < found[0].loss


def test_the_search_for_quality_is_better_than_any_stage_that_the_budget_allows() -> None:
    for seed in range(3):
        lookup = dear(seed)
        for target in (Target("milliseconds", 1.5), Target("text_cost", 0.2, bound=2.0)):
            best = search(lookup, target, margin=0.0, sweeps=2, routed=False)[0]
            for stage in range(len(EIGHT)):
                result = lookup.evaluate(single_stage(EIGHT, stage))
                if excess(target, result, lookup.table).mean() <= 0.0:
                    assert best.loss <= max(loss(result, lookup.table), 0.5 / 400)
            assert best.excess <= 0.0


def test_beside_a_promise_of_quality_a_budget_is_kept_at_the_least_cost() -> None:
    lookup, drop = dear(0), Target("accuracy_drop", 0.1)
    full = lookup.evaluate(tier_alone(EIGHT, 2)).cost.mean()
    plain = search(lookup, drop, margin=0.5, sweeps=1, routed=False)
    both = [drop, Target("milliseconds", 0.8 * full)]
    found = search(lookup, both, margin=0.5, sweeps=1, routed=False)
    assert found[0] == replace(plain[0], excess=found[0].excess) and found[0].excess <= 0.0
    ordered = front(lookup, both, found, sweeps=1)
    assert ordered[0].policy != tier_alone(EIGHT, 2)  # it is too dear, and would end the sequence
    assert all(f.excess <= 0.0 for f in ordered) and len(ordered) > 3
    costs = [f.cost for f in ordered]
    assert costs == sorted(costs, reverse=True)
    rich = [drop, Target("milliseconds", 1.01 * full)]
    assert order(lookup, rich, [])[0].policy == tier_alone(EIGHT, 2)
    poor = [drop, Target("milliseconds", 0.01)]
    assert [f.policy for f in order(lookup, poor, [])] == [tier_alone(EIGHT, 2)]


def test_the_best_that_the_budget_allows_is_served_and_bounded() -> None:
    ordered = cheap_to_good(0.9, 0.7, 0.5, 0.45, 0.2)
    found = certified(ordered, table(), BUDGET)
    assert (found.verdict, found.certified) == ("CERTIFIED", 5)
    assert found.policy == answering(0.45)
    kept = found.quality
    assert kept is not None and (kept.metric, kept.confidence) == ("accuracy_drop", 0.9)
    assert PEOPLE.loss(answering(0.45), "accuracy_drop") < kept.level < 0.1
    assert any("union bound over the front" in each and "0.8" in each for each in found.assumptions)
    assert any("read from the cost table" in each for each in found.assumptions)
    unlabelled = reclassified(table(), labels=np.full(2000, -1, np.int32))
    kept = certified(ordered, unlabelled, TEXT_COST).quality
    assert kept is not None and kept.metric == "agreement"
    assert PEOPLE.loss(answering(0.45), "agreement") < kept.level < 0.13


def test_no_test_is_needed_of_what_a_policy_keeps_by_definition() -> None:
    nothing = table(0)
    wide = [Target("milliseconds", 11.1), Target("text_cost", 0.0, bound=11.1)]
    assert certified(cheap_to_good(0.5), nothing, wide).certified == 2
    narrow = [Target("milliseconds", 10.9), Target("abstention", 0.1)]
    found = certified(cheap_to_good(0.5), nothing, narrow)
    assert found.certified == 1 and found.quality is None
    assert found.front[1].p_values == (1.0, 0.0)  # it never abstains


def test_too_few_rows_are_told_with_the_number_that_does() -> None:
    for metric in METRICS:
        target = PEOPLE.target(metric, 0.4, 0.95)
        found = certified(cheap_to_good(0.5), table(25), target)
        assert (found.verdict, found.policy) == ("NOT CERTIFIED", CHEAP)
        assert found.rows_needed is not None and 25 < found.rows_needed < 2000
        more = table(8 * found.rows_needed)
        assert certified(cheap_to_good(0.5), more, target).verdict == "CERTIFIED"


def test_one_stage_as_good_as_anything_is_not_to_be_routed() -> None:
    rows = table()
    for level in (10.5, 11.5):  # by a test, and by definition
        target = Target("milliseconds", level)
        found = search(looked_up(rows), target, margin=1.0, sweeps=1, routed=False)
        assert found[0].policy == FULL
        ordered = [f.policy for f in front(looked_up(rows), target, found, sweeps=1)]
        assert (ordered[0], ordered[-1]) == (CHEAP, FULL)
        told = certified(ordered, table(seed=1), target)
        assert (told.verdict, told.policy) == ("DO NOT ROUTE", FULL)
        assert told.quality == Target("accuracy_drop", 0.0)
    alike = table(people=Population(0.0, 0.0))  # the cheap stage says what the full tier says
    found = search(looked_up(alike), BUDGET, margin=1.0, sweeps=1, routed=False)
    ordered = [f.policy for f in front(looked_up(alike), BUDGET, found, sweeps=1)]
    assert ordered == [CHEAP]
    assert certified(ordered, alike, BUDGET).verdict == "DO NOT ROUTE"


def test_a_budget_below_the_cheapest_stage_certifies_nothing() -> None:
    found = certified([CHEAP], table(), Target("milliseconds", 0.5))
    assert (found.verdict, found.certified, found.rows_needed) == ("NOT CERTIFIED", 0, None)
    page = render_certificate(found, "x", ["tiny", "full"], STAGES)
    assert "Not even the cheapest stage alone was proved" in page


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    targets = [replace(BUDGET, confidence=0.95), replace(TEXT_COST, confidence=0.95)]
    return certified(cheap_to_good(0.9, 0.6, 0.2), table(), targets)


def test_a_budgets_certificate_comes_back_from_json(certificate: Certificate) -> None:
    content = json.loads(json.dumps(certificate_to_json(certificate), allow_nan=False))
    assert certificate_from_json(content, STAGES) == certificate
    assert [set(each) - {"metric", "level"} for each in content["targets"]] == [
        {"confidence", "group"},
        {"confidence", "group", "bound"},
    ]
    for wrong, told in (
        ({"level": 0.0}, "is no budget"),
        ({"bound": 3.0}, "takes no bound"),
        ({"metric": "text_cost"}, "is no share|needs a bound"),
    ):
        targets = [{**content["targets"][0], **wrong}, content["targets"][1]]
        with pytest.raises(BundleError, match=told):
            certificate_from_json({**content, "targets": targets}, STAGES)
    del content["quality"]  # as of certificates before there were budgets
    assert certificate_from_json(content, STAGES) == replace(certificate, quality=None)


def test_the_page_tells_the_budget_and_the_bound_on_quality(certificate: Certificate) -> None:
    page = render_certificate(certificate, "x", ["tiny", "full"], STAGES)
    for told in (
        "at most 7 milliseconds a text in the mean; and at most 60.00% of the texts above 5.0 mil",
        "lost least against the full tier on other rows",
        "proved besides: at most",
        "of the full tier's accuracy lost",
        "union bound",
    ):
        assert told in page, told


# How often a certificate is wrong


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive.certificate.claims.Trial.rows_needed", lambda *given: None)
    monkeypatch.setattr("adaptive.policy.search.LEVELS", 12)


def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound on quality, which takes most of the time and is counted by itself."""
    monkeypatch.setattr("adaptive.certificate.certify.bound_loss", lambda *given: None)


def wrong_at_the_level(metric: str, draws: int, rows: int, test: str = "betting") -> int:
    target = PEOPLE.target(metric, 0.4, 0.9)
    ordered = cheap_to_good(0.95, 0.5, 0.4, 0.399, 0.38, 0.3)
    wrong = 0
    for draw in range(draws):
        rows_ = PEOPLE.draw(rows, np.random.default_rng([32, draw]))
        found = certified(ordered, rows_, target, draw, test=test)
        wrong += any(PEOPLE.excess(policy, target) > -1e-9 for policy in found.policies)
    return wrong


def wrong_with_search(metric: str, draws: int) -> tuple[int, int]:
    target = KEEN.target(metric, 0.5, 0.9)
    return tiny_population.wrong_with_search(
        KEEN.draw, lambda policy: KEEN.excess(policy, target), target, draws, 33
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("metric", METRICS)
def test_policies_at_the_level_are_rarely_certified(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbounded(monkeypatch)
    assert 0 < wrong_at_the_level(metric, 500, 300) <= most(0.1, 500)


@pytest.mark.usefixtures("quick")
def test_hoeffding_and_bentkus_keep_the_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    unbounded(monkeypatch)
    assert wrong_at_the_level("milliseconds", 200, 300, "hoeffding_bentkus") <= most(0.1, 200)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("metric", METRICS)
def test_the_whole_procedure_with_search_is_rarely_wrong(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbounded(monkeypatch)
    wrong, tempting = wrong_with_search(metric, 150)
    assert wrong <= most(0.1, 150)
    assert tempting > 15


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("metric", METRICS)
def test_a_budget_is_rarely_broken_in_many_draws(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbounded(monkeypatch)
    assert wrong_with_search(metric, 2000)[0] <= most(0.1, 2000)
    assert wrong_at_the_level(metric, 2000, 500) <= most(0.1, 2000)


def bounds(metric: str, draws: int, family: int) -> list[float]:
    """Bounds on the loss of a policy that was not chosen by the rows."""
    policy, found = answering(0.6), []
    for draw in range(draws):
        rows = PEOPLE.draw(300, np.random.default_rng([34, draw]))
        if metric == "agreement":
            rows = reclassified(rows, labels=np.full(300, -1, np.int32))
        result = looked_up(rows).evaluate(policy)
        found.append(bound_loss(policy, result, rows, 0.9, 1.0 / family, draw, "betting").level)
    return found


@pytest.mark.parametrize("metric", ["accuracy_drop", "agreement"])
def test_a_bound_on_quality_covers_as_often_as_it_says(metric: str) -> None:
    lost = PEOPLE.loss(answering(0.6), metric)
    alone = np.array(bounds(metric, 100, 1))
    assert 0 < (alone < lost).sum() <= most(0.1, 100)
    assert np.median(alone) < lost + 0.08
    shared = np.array(bounds(metric, 20, 50))
    assert (shared >= alone[:20]).all() and (shared > alone[:20]).any()


def wrong_bounds(draws: int) -> int:
    """How often the bound of the served policy is below what that policy really loses."""
    wrong = 0
    ordered = cheap_to_good(*np.linspace(0.6, 0.35, 12).tolist())
    for draw in range(draws):
        rows = PEOPLE.draw(300, np.random.default_rng([35, draw]))
        found = certified(ordered, rows, BUDGET, draw)
        assert found.quality is not None
        wrong += found.quality.level < PEOPLE.loss(found.policy, "accuracy_drop")
    return wrong


@pytest.mark.usefixtures("quick")
def test_the_bound_on_quality_covers_whichever_policy_is_served() -> None:
    assert wrong_bounds(100) <= most(0.1, 100)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_bound_on_quality_covers_in_many_draws() -> None:
    assert wrong_bounds(2000) <= most(0.1, 2000)
    for metric in ("accuracy_drop", "agreement"):
        lost = PEOPLE.loss(answering(0.6), metric)
        assert (np.array(bounds(metric, 2000, 1)) < lost).sum() <= most(0.1, 2000)


def test_work_is_a_budget_like_milliseconds() -> None:
    rows = table(300)
    counted = Lookup.of(rows, replace(COSTS, unit=WORK).at(rows.tokens))
    for target, lookup in ((BUDGET, looked_up(rows)), (replace(BUDGET, metric="work"), counted)):
        found = search(lookup, target, margin=0.0, sweeps=1, routed=False)
        assert found[0].excess <= 0.0 and found[0].cost <= 7.0
