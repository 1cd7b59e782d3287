"""What a certificate says, and that it says no more than was tested."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_population import CONDITIONS, COSTS, FULL, STAGES, Population, answering, certified

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.page import render_certificate
from adaptive.certificate.certify import at_levels, certify, with_levels
from adaptive.certificate.promises import Certificate
from adaptive.errors import BundleError, TargetError
from adaptive.policy.lookup import tier_alone
from adaptive.policy.worth import reclassified
from adaptive.types import OutcomeTable, Policy, Target

PEOPLE = Population()
CHEAP = tier_alone(STAGES, 0)


TARGET = {"metric": "accuracy_drop", "level": 0.1, "confidence": 0.95, "group": None}


def table(rows: int = 2000, seed: int = 0, people: Population = PEOPLE) -> OutcomeTable:
    # not the stream that the betting test takes its order of rows from
    return people.draw(rows, np.random.default_rng([7, seed]))


def test_the_cheapest_policy_that_passes_is_served() -> None:
    ordered = [FULL, *map(answering, (0.1, 0.2, 0.3, 0.4, 0.7))]
    found = certified(ordered, table(), Target("agreement", 0.1))
    assert (found.verdict, found.headline) == ("CERTIFIED", "CERTIFIED")
    assert found.policy == found.policies[-1] == answering(0.4)
    assert (found.certified, found.rows_needed, found.n) == (5, None, 2000)
    assert found.delta == pytest.approx(0.05)
    p_values = [tested.p_value for tested in found.front]
    assert p_values[0] == 0.0 and max(p_values[:5]) <= 0.05 < p_values[5]
    assert [tested.policy for tested in found.front] == ordered


def test_nothing_behind_the_first_failure_counts_however_small_its_p_value() -> None:
    ordered = [FULL, answering(0.2), answering(0.9), answering(0.1), answering(0.3)]
    found = certified(ordered, table(), Target("agreement", 0.1))
    p_values = [tested.p_value for tested in found.front]
    assert p_values[2] > 0.05 >= max(p_values[3:])
    assert found.certified == 2 and found.policy == answering(0.2)
    assert [found.covers(policy) for policy in ordered] == [True, True, False, False, False]


def test_the_cheapest_of_the_certified_is_served_wherever_it_stands() -> None:
    ordered = [FULL, answering(0.3), answering(0.1)]
    found = certified(ordered, table(), Target("agreement", 0.1))
    assert found.certified == 3 and found.policy == answering(0.3)


@pytest.mark.parametrize("metric", ["agreement", "accuracy_drop", "accuracy"])
def test_too_few_rows_are_told_with_the_number_that_does(metric: str) -> None:
    people = Population(worse=0.1, better=0.02)
    target = people.target(metric, 0.9, 0.95)
    ordered = [FULL, answering(0.2)]
    found = certified(ordered, table(25, people=people), target)
    assert found.verdict == "NOT CERTIFIED" and found.policy == FULL
    needed = found.rows_needed
    assert needed is not None and 25 < needed < 500
    assert found.headline == f"NOT CERTIFIED: needs about {needed} rows, there are 25"
    # the number rests on what 25 rows show: with a good deal more the promise is proved
    for seed in range(10):
        more = certified(ordered, table(8 * needed, seed, people), target)
        assert more.certified == 2


def test_a_policy_that_breaks_the_target_is_not_said_to_need_rows() -> None:
    found = certified([FULL, answering(0.9)], table(), Target("agreement", 0.05))
    assert found.verdict == "NOT CERTIFIED"
    assert found.rows_needed is None
    assert "misses the target" in found.headline


def test_one_stage_as_cheap_as_anything_is_not_to_be_routed() -> None:
    good = Population(worse=0.01, better=0.01)
    ordered = [FULL, answering(0.5), CHEAP]
    found = certified(ordered, table(people=good), Target("accuracy_drop", 0.05))
    assert (found.verdict, found.policy, found.certified) == ("DO NOT ROUTE", CHEAP, 3)


def test_the_full_tier_alone_in_a_front_is_not_to_be_routed() -> None:
    found = certified([FULL], table(), Target("agreement", 0.01))
    assert (found.verdict, found.policy, found.certified) == ("DO NOT ROUTE", FULL, 1)


def test_an_accuracy_out_of_reach_certifies_nothing_at_all() -> None:
    found = certified([FULL, answering(0.2)], table(), Target("accuracy", 0.95))
    assert (found.verdict, found.certified, found.policies) == ("NOT CERTIFIED", 0, ())
    assert found.policy == FULL and not found.covers(FULL)


@pytest.mark.parametrize("metric", ["agreement", "accuracy_drop", "accuracy"])
def test_without_rows_only_what_holds_by_definition_is_certified(metric: str) -> None:
    target = PEOPLE.target(metric, 0.5, 0.95)
    found = certified([FULL, answering(0.1)], table(0), target)
    assert found.certified == (metric != "accuracy")
    assert found.headline == "NOT CERTIFIED: there are no certification rows"


@pytest.mark.parametrize(
    "target", [Target("agreement", 1.0), Target("accuracy_drop", 1.0), Target("accuracy", 0.0)]
)
def test_a_target_that_nothing_can_break_holds_without_a_test(target: Target) -> None:
    assert certified([FULL, CHEAP], table(5), target).certified == 2


def test_credit_is_given_for_what_only_the_cheap_stage_knows() -> None:
    people = Population(worse=0.03, better=0.03)
    drop, agreement = Target("accuracy_drop", 0.02), Target("agreement", 0.02)
    ordered = [FULL, answering(0.9)]
    assert certified(ordered, table(8000, people=people), drop).certified == 2
    assert certified(ordered, table(8000, people=people), agreement).certified == 1


def test_the_order_of_rows_matters_to_betting_alone_and_is_kept_by_its_seed() -> None:
    rows = table(400)
    shuffled = np.random.default_rng(1).permutation(400)
    other = reclassified(rows, predictions=rows.predictions[shuffled], labels=rows.labels[shuffled])
    other = replace(other, reliability=rows.reliability[shuffled], tokens=rows.tokens[shuffled])
    ordered = [FULL, answering(0.3)]

    def p_value(rows: OutcomeTable, metric: str, seed: int, test: str = "betting") -> float:
        target = PEOPLE.target(metric, 0.5, 0.95)
        return certified(ordered, rows, target, seed, test=test).front[1].p_value

    assert p_value(rows, "accuracy_drop", 0) == p_value(rows, "accuracy_drop", 0)
    assert p_value(rows, "accuracy_drop", 0) != p_value(rows, "accuracy_drop", 1)
    assert p_value(rows, "accuracy_drop", 0) != p_value(other, "accuracy_drop", 0)
    assert p_value(rows, "agreement", 0) == p_value(other, "agreement", 1)
    bentkus = p_value(rows, "accuracy_drop", 0, "hoeffding_bentkus")
    assert bentkus == p_value(other, "accuracy_drop", 1, "hoeffding_bentkus")


def test_rows_without_labels_serve_agreement_alone() -> None:
    rows = reclassified(table(), labels=np.full(2000, -1, np.int32))
    assert certified([FULL, answering(0.2)], rows, Target("agreement", 0.1)).certified == 2
    with pytest.raises(TargetError, match="needs labels"):
        certified([FULL, answering(0.2)], rows, Target("accuracy_drop", 0.1))


@pytest.mark.parametrize("ordered", [[], [answering(0.2)], [answering(0.2), FULL]])
def test_a_front_begins_with_the_full_tier(ordered: list[Policy]) -> None:
    with pytest.raises(ValueError, match="begins with the full tier"):
        certify(ordered, table(), COSTS, Target("agreement", 0.1), 0, CONDITIONS)


@pytest.fixture
def certificate() -> Certificate:
    ordered = [FULL, *map(answering, (0.1, 0.3, 0.9))]
    found = certified(ordered, table(), Target("accuracy_drop", 0.1), 3)
    return replace(found, hashes={"costs.json": "ab" * 32})


def test_a_certificate_comes_back_from_json(certificate: Certificate) -> None:
    text = json.dumps(certificate_to_json(certificate), allow_nan=False)
    assert certificate_from_json(json.loads(text), STAGES) == certificate


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"verdict": "FINE"}, "`verdict` must be one of CERTIFIED"),
        ({"claims": [{"target": 0, "group": None, "n": 1, "test": "t-test"}]}, "`test` must be"),
        ({"claims": [{"target": 1, "group": None, "n": 1, "test": "betting"}]}, "ValueError in"),
        ({"claims": [{"target": 0, "group": "a", "n": 1, "test": "betting"}]}, "is for a group"),
        ({"claims": []}, "1 p-values of a policy for 0 claims"),
        ({"obstacle": 1}, "ValueError in one of its fields"),
        ({"certified": 4}, "the first 3 of its p-values pass"),
        ({"certified": -1}, "ValueError in one of its fields"),
        ({"seeds": [1]}, "AttributeError in one of its fields"),
        ({"conditions": {"device": "cpu"}}, "TypeError in one of its fields"),
        ({"targets": [{**TARGET, "metric": "speed"}]}, "unknown metric"),
        ({"targets": [TARGET, {**TARGET, "confidence": 0.9}]}, "share one confidence"),
        ({"targets": []}, "one or more"),
        ({"format": 99}, "newer"),
        ({"extra": 1}, "expected"),
    ],
    ids=str,
)
def test_a_certificate_that_is_wrong_is_refused(
    certificate: Certificate, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(BundleError, match=told):
        certificate_from_json({**certificate_to_json(certificate), **changes}, STAGES)


def test_a_certificate_cannot_serve_what_it_does_not_certify(certificate: Certificate) -> None:
    content = certificate_to_json(certificate)
    content["policy"] = content["front"][3]["policy"]
    with pytest.raises(BundleError, match="not one that it certifies"):
        certificate_from_json(content, STAGES)
    content["front"][0]["p_values"] = [2.0]
    with pytest.raises(BundleError, match="p-values in"):
        certificate_from_json(content, STAGES)


def test_the_page_tells_everything_a_reviewer_needs(certificate: Certificate) -> None:
    page = render_certificate(certificate, "a | name", ["tiny", "full"], STAGES)
    assert page.startswith("# Certificate of a \\| name\n\n**CERTIFIED.**")
    for told in (
        "at most 10.00% of the full tier's accuracy lost",
        "0.95 (delta 0.05)",
        "tiny@0 from 0.7, full@0",
        "2,000, SHA-256 `" + "0" * 64,
        "paired answers",
        "the first 3 of 4 policies",
        "rows 3",
        "cpu",
        "float32",
        "milliseconds",
        "python 3",
        "exchangeable",
        "`" + "ab" * 32 + "`",
    ):
        assert told in page, told
    lines = [line for line in page.splitlines() if line.endswith((" certified |", " failed |"))]
    assert len(lines) == 4 and lines[-1].endswith("failed |")


def test_the_page_of_a_certificate_of_nothing_says_so() -> None:
    found = certified([FULL, answering(0.2)], table(), Target("accuracy", 0.95))
    page = render_certificate(found, "x", ["tiny", "full"], STAGES)
    assert "Not even the full tier alone was proved" in page
    assert "not reached" in page


def test_levels_are_promises_of_their_own_on_the_same_rows() -> None:
    target = Target("agreement", 0.1)
    fronts = [[FULL, answering(0.3)], [FULL, answering(0.05)], [FULL, answering(0.8)]]
    promises = [(target,), *at_levels((target,), (0.02, 0.3))]
    first, *others = [
        certified(ordered, table(), each) for ordered, each in zip(fronts, promises, strict=True)
    ]
    assert with_levels(first, []) == first
    found = replace(with_levels(first, others), hashes={"costs.json": "ab" * 32})
    assert [each.target.level for each in found.further] == [0.02, 0.3]
    assert "Each of the 3 levels" in found.assumptions[-1] and "0.85 only" in found.assumptions[-1]
    loose = found.at(Target("agreement", 0.3))
    assert loose is not None and loose.policy == answering(0.8)
    assert loose.covers(answering(0.8)) and not found.covers(answering(0.8))
    assert not loose.covers(answering(0.3))
    assert [each.target.level for each in loose.further] == [0.1, 0.02]
    assert loose.hashes == found.hashes and not any(each.hashes for each in loose.further)
    back = loose.at(target)
    assert back is not None and len(back.further) == 2
    assert all(each in found.further for each in back.further)
    assert replace(back, further=()) == replace(found, further=())
    assert found.at(Target("agreement", 0.2)) is None
    assert found.at(Target("agreement", 0.3, 0.9)) is None
    content = json.loads(json.dumps(certificate_to_json(found), allow_nan=False))
    assert certificate_from_json(content, STAGES) == found
    page = render_certificate(found, "x", ["tiny", "full"], STAGES)
    assert "## at most 30.00% of the texts answered unlike" in page
    assert "tiny@0 from 0.2, full@0" in page
    content["further"][0]["certified"] = 1
    content["further"][1]["n"] = 3
    with pytest.raises(BundleError, match="further: expected"):
        certificate_from_json(content, STAGES)
    del content["further"][1]["n"]
    with pytest.raises(BundleError, match="of its p-values pass"):
        certificate_from_json(content, STAGES)
