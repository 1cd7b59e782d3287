"""Texts left to nobody: bounded in number, and the promise is about those that are answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_population
from tiny_outcomes import STAGES as THREE
from tiny_outcomes import random_costs, random_policy, random_table, saying
from tiny_population import COSTS, FULL, STAGES, Population, certified, most

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.page import render_certificate
from adaptive.bundle.policies import policy_from_json, policy_to_json
from adaptive.policy.lookup import Lookup, abstains, evaluate, is_bare, last_exits
from adaptive.policy.search import search
from adaptive.policy.targets import excess
from adaptive.policy.worth import reclassified
from adaptive.risk import binomial
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Target

RISK = 0.4  # of the least reliable text; none of the most reliable one's
CHEAP = Policy((0,), (ALWAYS, NEVER))


def draw(rows: int, rng: np.random.Generator) -> OutcomeTable:
    """A cheap stage that knows what it does not know; the full tier is always right."""
    table = Population(0.0, 0.0, 1.0).draw(rows, rng)
    wrong = rng.random(rows) < RISK * (1.0 - table.reliability[:, 0])
    predictions = table.predictions.copy()
    predictions[wrong, 0] = 0
    return reclassified(table, predictions=predictions)


def truth(policy: Policy, targets: list[Target]) -> float:
    """The greatest true excess of a policy of the cheap stage that leaves a share to nobody."""
    if policy.path == (1,):
        return -1.0
    share = float(np.clip(policy.abstain, 0.0, 1.0))  # of texts that are left
    first = 1.0 if policy.path == (0,) else 1.0 - float(np.clip(policy.thresholds[0], 0.0, 1.0))
    left = share if policy.path == (0,) else 0.0
    low = share if policy.path == (0,) else 1.0 - first
    lost = RISK * (1.0 - low) ** 2 / 2  # of all texts
    found = []
    for target in targets:
        if target.metric == "abstention":
            found.append(left - target.level)
        else:
            found.append(lost - target.level * (1.0 - left))
    return max(found)


def leaving(share: float) -> Policy:
    return replace(CHEAP, abstain=share)


BOTH = [Target("agreement", 0.1, 0.9), Target("abstention", 0.5, 0.9)]


@pytest.mark.parametrize("seed", range(12))
def test_a_policy_that_abstains_is_the_same_but_for_its_least_sure_last_answers(seed: int) -> None:
    table, costs = random_table(seed), random_costs(seed)
    whole = random_policy(seed, routed=bool(seed % 2))
    part = replace(whole, abstain=0.6)
    before, after = (evaluate(policy, table, costs) for policy in (whole, part))
    last = last_exits(whole, THREE)[whole.path[-1]]
    unsure = (before.stage == last) & (table.reliability[:, last] < np.float32(0.6))
    assert (after.stage == before.stage).all()
    assert (after.answered == ~unsure).all() and before.answered.all()
    assert (after.score == before.score).all() and (after.alike == before.alike).all()
    assert unsure.any() or last not in before.stage
    assert not abstains(whole, THREE, before.stage, table.reliability[:, 0]).any()
    assert is_bare(CHEAP) and not is_bare(leaving(0.2))  # its reliability has to be computed
    assert policy_from_json(policy_to_json(part), THREE, "x") == part


def test_an_excess_weighs_the_texts_that_are_answered() -> None:
    table = draw(400, np.random.default_rng(0))
    prediction = table.predictions[:, 0].copy()
    prediction[::3] = -1
    some = table.take(np.flatnonzero(prediction >= 0))
    for metric in ("agreement", "accuracy", "accuracy_drop"):
        target = Target(metric, 0.2)  # type: ignore[arg-type]
        values = excess(target, saying(prediction, table), table)
        assert (values[::3] == 0).all()
        inside = excess(target, saying(some.predictions[:, 0], some), some)
        assert values.sum() == pytest.approx(inside.sum())
    rate = excess(Target("abstention", 0.25), saying(prediction, table), table)
    assert rate.mean() == pytest.approx((prediction < 0).mean() - 0.25)


def test_the_binomial_test_may_be_over_some_of_the_rows() -> None:
    losses = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=float)
    counted = np.array([[1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=bool)
    alone = [float(binomial(row[some], 0.3)) for row, some in zip(losses, counted, strict=True)]
    assert binomial(losses, 0.3, counted).tolist() == pytest.approx(alone)
    assert binomial(losses, 0.3, np.zeros_like(counted)).tolist() == [1.0, 1.0]


def test_the_share_left_to_nobody_is_promised_with_the_risk_of_the_rest() -> None:
    rows = draw(4000, np.random.default_rng(1))
    found = certified([FULL, *map(leaving, (0.7, 0.6, 0.4))], rows, BOTH)
    assert found.certified == 1  # 0.7 is more than half
    found = certified([FULL, *map(leaving, (0.47, 0.53, 0.45))], rows, [BOTH[0]])
    assert found.certified == 1  # 0.106 of the rest is lost
    fine = [replace(BOTH[0], level=0.12), BOTH[1]]
    found = certified([FULL, *map(leaving, (0.46, 0.45, 0.2))], rows, fine)
    assert (found.certified, found.policy.abstain) == (3, 0.46)
    assert found.verdict == "CERTIFIED" and len(found.claims) == 2
    assert certificate_from_json(certificate_to_json(found), STAGES) == found
    page = render_certificate(found, "x", ["tiny", "full"], STAGES)
    assert "at most 50.00% of the texts left to a person" in page
    assert "nobody answers below 0.46 at the last" in page
    assert "about the texts that are answered" in page


def test_rows_that_are_needed_count_those_that_nobody_answers() -> None:
    rows = draw(60, np.random.default_rng(2))
    target = Target("agreement", 0.12)
    found = certified([FULL, leaving(0.6)], rows, target)
    assert found.rows_needed is not None
    more = draw(8 * found.rows_needed, np.random.default_rng(3))
    assert certified([FULL, leaving(0.6)], more, target).certified == 2


KINDS = {
    "agreement": [Target("agreement", 0.1, 0.9), Target("abstention", 0.6, 0.9)],
    "drop": [Target("accuracy_drop", 0.1, 0.9), Target("abstention", 0.6, 0.9)],
    "rate": [Target("agreement", 0.2, 0.9), Target("abstention", 0.5, 0.9)],
}


def wrong_at_the_level(targets: list[Target], draws: int) -> int:
    """The cheap stage at its level where it leaves half: its risk there, or that very share."""
    ordered = [FULL, *map(leaving, (0.5, 0.499, 0.501))]
    wrong = 0
    for number in range(draws):
        rows = draw(400, np.random.default_rng([21, number]))
        found = certified(ordered, rows, targets, number)
        wrong += any(truth(policy, targets) > -1e-9 for policy in found.policies)
    return wrong


def wrong_with_search(targets: list[Target], draws: int) -> tuple[int, int]:
    return tiny_population.wrong_with_search(
        draw, lambda policy: truth(policy, targets), targets, draws, 22
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive.certificate.claims.Trial.rows_needed", lambda *given: None)
    monkeypatch.setattr("adaptive.policy.search.LEVELS", 8)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("targets", KINDS.values(), ids=KINDS)
def test_abstaining_policies_at_the_level_are_rarely_certified(targets: list[Target]) -> None:
    wrong = wrong_at_the_level(targets, 500)
    assert 0 < wrong <= most(0.1, 500)


@pytest.mark.usefixtures("quick")
def test_the_whole_procedure_with_abstention_is_rarely_wrong() -> None:
    wrong, tempting = wrong_with_search(BOTH, 100)
    assert wrong <= most(0.1, 100)
    assert tempting > 20


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("targets", KINDS.values(), ids=KINDS)
def test_the_whole_procedure_with_abstention_is_rarely_wrong_in_many_draws(
    targets: list[Target],
) -> None:
    assert wrong_with_search(targets, 2000)[0] <= most(0.1, 2000)
    assert wrong_at_the_level(targets, 2000) <= most(0.1, 2000)


def test_the_search_leaves_texts_to_nobody_where_that_is_cheaper_and_allowed() -> None:
    rows = draw(2000, np.random.default_rng(4))
    lookup = Lookup.of(rows, COSTS.at(rows.tokens))
    wide = [BOTH[0], Target("abstention", 0.6, 0.9)]
    plain = search(lookup, BOTH[0], margin=1.0, sweeps=1, routed=False)
    found = search(lookup, wide, margin=1.0, sweeps=1, routed=False)
    assert all(each.policy.abstain == ALWAYS for each in plain)
    assert found[0].policy.abstain > 0.3 and found[0].cost < plain[0].cost
    rare = [BOTH[0], Target("abstention", 0.01, 0.9)]
    assert search(lookup, rare, margin=1.0, sweeps=1, routed=False)[0].cost == plain[0].cost
    routed = search(lookup, wide, margin=1.0, sweeps=1, routed=True)
    assert routed[0].cost <= found[0].cost
