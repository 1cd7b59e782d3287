"""Several targets and groups at once: all of them hold, and what stands in the way is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_population
from tiny_outcomes import STAGES as THREE
from tiny_outcomes import random_costs, random_policy, random_table, saying
from tiny_population import COSTS, FULL, STAGES, Mixed, Population, answering, certified, most

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.page import render_certificate
from adaptive.errors import TargetError
from adaptive.policy.fronts import order
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import search
from adaptive.policy.targets import excess, mean_excess
from adaptive.types import Groups, OutcomeTable, Policy, Target

# The second kind's texts are lost twice as often; the third kind is rare.
PEOPLE = Mixed(
    (Population(0.1, 0.02), Population(0.2, 0.04), Population(0.1, 0.1)), (0.5, 0.4, 0.1)
)
EACH = Target("agreement", 0.1, 0.9, "kind")


def table(rows: int, seed: int = 0, people: Mixed = PEOPLE) -> OutcomeTable:
    return people.draw(rows, np.random.default_rng([11, seed]))


def grouped(seed: int, names: tuple[str, ...] = ("x", "y", "z"), rows: int = 60) -> OutcomeTable:
    found = random_table(seed, rows)
    index = np.random.default_rng(seed).integers(0, len(names), rows).astype(np.int32)
    return replace(found, groups={"kind": Groups(names, index)})


@pytest.mark.parametrize("metric", ["agreement", "accuracy_drop", "accuracy"])
def test_mean_excesses_are_those_of_each_target_in_each_of_its_groups(metric: str) -> None:
    rows = grouped(0)
    result = saying(rows.predictions[:, 2], rows)
    targets = [Target(metric, 0.2, group="kind"), Target("agreement", 0.3)]  # type: ignore[arg-type]
    means, errors = mean_excess(targets, result, rows)
    assert means.shape == errors.shape == (4,)
    for number in range(3):
        own = rows.take(np.flatnonzero(rows.groups["kind"].index == number))
        values = excess(targets[0], saying(own.predictions[:, 2], own), own)
        assert means[number] == pytest.approx(values.mean())
        assert errors[number] == pytest.approx(values.std() / np.sqrt(len(values)))
    assert means[3] == excess(targets[1], result, rows).mean()


def test_a_group_without_texts_speaks_against_no_policy_in_the_search() -> None:
    rows = grouped(1)
    more = Groups((*rows.groups["kind"].names, "unseen"), rows.groups["kind"].index)
    means, errors = mean_excess(
        [replace(EACH)], saying(rows.predictions[:, 0], rows), replace(rows, groups={"kind": more})
    )
    assert means[3] == -np.inf and errors[3] == 0.0
    assert np.isfinite(means[:3]).all()


def test_what_is_found_keeps_the_target_in_every_group_with_the_margin() -> None:
    rows = table(600, 3)
    lookup = Lookup.of(rows, COSTS.at(rows.tokens))
    found = search(lookup, EACH, margin=0.5, sweeps=1, routed=False)
    plain = search(lookup, replace(EACH, group=None), margin=0.5, sweeps=1, routed=False)
    assert found[0].cost > plain[0].cost
    for each in found:
        means, errors = mean_excess([EACH], lookup.evaluate(each.policy), rows)
        assert (means + 0.5 * errors).max() == pytest.approx(each.excess)
        assert each.excess <= 0
    again = search(lookup, [EACH, replace(EACH, group=None)], margin=0.5, sweeps=1, routed=False)
    assert again == found  # the mean follows from the groups


def test_all_groups_together_keep_what_each_of_them_keeps() -> None:
    rows = grouped(3)
    for seed in range(20):
        lookup = Lookup.of(rows, random_costs(3, 60))
        result = lookup.evaluate(random_policy(seed, routed=False))
        for metric in ("agreement", "accuracy_drop", "accuracy"):
            each = Target(metric, 0.4, group="kind")  # type: ignore[arg-type]
            by_group, _ = mean_excess([each], result, rows)
            mean, _ = mean_excess([replace(each, group=None)], result, rows)
            assert mean[0] <= by_group.max() + 1e-12
    assert len(THREE) == rows.predictions.shape[1]


def test_a_policy_must_pass_in_every_group() -> None:
    ordered = [FULL, *map(answering, (0.2, 0.5, 0.9))]
    found = certified(ordered, table(4000), EACH)
    mean = certified(ordered, table(4000), replace(EACH, group=None))
    assert (found.certified, mean.certified) == (2, 3)  # 0.5 x 0.24 is too much for kind b
    assert [claim.group for claim in found.claims] == ["a", "b", "c"]
    assert sum(claim.n for claim in found.claims) == found.n == 4000
    for tested in found.front:
        assert tested.p_value == max(tested.p_values) and len(tested.p_values) == 3
    failed = found.front[2]
    assert failed.p_values[1] == failed.p_value > 0.1 > failed.p_values[0]


def test_several_targets_must_all_hold() -> None:
    both = [EACH, Target("accuracy", 0.88, 0.9)]
    ordered = [FULL, *map(answering, (0.1, 0.35))]
    found = certified(ordered, table(6000), both)
    assert (found.certified, len(found.claims), found.targets) == (2, 4, tuple(both))
    assert [claim.test for claim in found.claims] == ["binomial"] * 4
    alone = [certified(ordered, table(6000), each).certified for each in both]
    assert found.certified == min(alone) < max(alone)


def test_a_group_that_no_row_is_of_fails_and_is_named() -> None:
    rows = table(4000)
    names = (*PEOPLE.names, "nobody")
    rows = replace(rows, groups={"kind": Groups(names, rows.groups["kind"].index)})
    found = certified([FULL, answering(0.05)], rows, EACH)
    assert (found.verdict, found.certified, found.policy) == ("NOT CERTIFIED", 1, FULL)
    assert found.front[1].p_values[3] == 1.0 and found.claims[3].n == 0
    assert found.rows_needed is not None
    told = f"needs about {found.rows_needed} rows of kind = nobody, there are 0"
    assert found.headline == f"NOT CERTIFIED: {told}"


def test_the_small_group_that_is_short_of_rows_is_named_with_their_number() -> None:
    ordered, rows = [FULL, answering(0.2)], table(250)
    found = certified(ordered, rows, EACH)
    assert found.verdict == "NOT CERTIFIED" and found.obstacle == 2
    claim, needed = found.claims[2], found.rows_needed
    assert needed is not None and claim.n < needed < 250
    assert found.headline.endswith(f"{needed} rows of kind = c, there are {claim.n}")
    more = Mixed(PEOPLE.kinds, (0.3, 0.3, 0.4))
    assert certified(ordered, table(8 * needed, people=more), EACH).certified == 2


def test_a_group_in_which_the_policy_misses_the_target_is_named() -> None:
    people = Mixed((Population(0.02, 0.0), Population(0.5, 0.1)), (0.8, 0.2))
    found = certified([FULL, answering(0.5)], table(1000, people=people), EACH)
    assert found.headline.endswith("the next policy misses the target for kind = b")


def test_targets_share_a_confidence_and_need_their_columns() -> None:
    rows = table(50)
    with pytest.raises(ValueError, match=r"share one confidence, found 0\.9 and 0\.95"):
        certified([FULL], rows, [EACH, Target("agreement", 0.1, 0.95)])
    with pytest.raises(ValueError, match="no target at all"):
        certified([FULL], rows, [])
    with pytest.raises(TargetError, match="'region' is no column here; known: kind"):
        certified([FULL], rows, replace(EACH, group="region"))
    nameless = Groups(("a",), np.full(50, -1, np.int32))
    with pytest.raises(TargetError, match="of every row"):
        certified([FULL], replace(rows, groups={"kind": nameless}), EACH)


def test_the_certificate_and_its_page_list_every_target_and_group() -> None:
    both = [replace(EACH, metric="accuracy_drop"), Target("agreement", 0.2, 0.9)]
    found = certified([FULL, answering(0.2), answering(0.9)], table(4000), both)
    assert certificate_from_json(certificate_to_json(found), STAGES) == found
    page = render_certificate(found, "x", ["tiny", "full"], STAGES)
    for told in (
        "lost, in each kind; and at most 20.00% of the texts",
        "A promise for each kind holds in every group listed",
        "A promise without a group holds for the mean over all texts alone",
        "paired answers",
        "exact binomial",
    ):
        assert told in page, told
    for index, claim in enumerate(found.claims):
        line = next(
            each
            for each in page.splitlines()
            if f"| {claim.place or 'all'} | {claim.n:,} |" in each
        )
        for tested in (found.front[1], found.front[2]):
            assert f"{tested.p_values[index]:.3g}" in line
    plain = certified([FULL], table(50), Target("agreement", 0.2))
    assert "not for each label or group" in " ".join(plain.assumptions)
    assert "not for each label or group" not in " ".join(found.assumptions)
    classes = Groups(("no", "yes"), np.zeros(50, np.int32))
    rows = replace(table(50), groups={"label": classes})
    assert "its true one" in certified([FULL], rows, replace(EACH, group="label")).assumptions[-1]


KINDS = {
    "a group": [EACH],
    "a group's drop": [Target("accuracy_drop", 0.06, 0.9, "kind")],
    "targets": [Target("agreement", 0.08, 0.9), Target("accuracy_drop", 0.05, 0.9)],
    "both": [Target("agreement", 0.09, 0.9, "kind"), Target("accuracy", 0.85, 0.9)],
}


def at_the_level(targets: list[Target]) -> float:
    """The share at which the cheap stage breaks the first of the targets."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if PEOPLE.excess(answering(middle), targets) < 0 else (low, middle)
        )
    return high


def wrong_at_the_level(targets: list[Target], draws: int, rows: int) -> int:
    share = at_the_level(targets)
    ordered = [FULL, *(answering(share * part) for part in (0.2, 0.8, 1.0, 1.01, 1.1))]
    wrong = 0
    for draw in range(draws):
        found = certified(ordered, table(rows, draw), targets, draw)
        wrong += any(PEOPLE.excess(p, targets) > -1e-9 for p in found.policies)
    return wrong


def wrong_with_search(targets: list[Target], draws: int) -> tuple[int, int]:
    return tiny_population.wrong_with_search(
        PEOPLE.draw, lambda policy: PEOPLE.excess(policy, targets), targets, draws, 12
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive.certificate.claims.Trial.rows_needed", lambda *given: None)
    monkeypatch.setattr("adaptive.policy.search.LEVELS", 6)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("targets", KINDS.values(), ids=KINDS)
def test_groups_and_targets_at_the_level_are_rarely_certified(targets: list[Target]) -> None:
    assert wrong_at_the_level(targets, 500, 400) <= most(0.1, 500)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["a group", "both"])
def test_the_whole_procedure_with_groups_is_rarely_wrong(kind: str) -> None:
    wrong, tempting = wrong_with_search(KINDS[kind], 150)
    assert wrong <= most(0.1, 150)
    assert tempting > 30


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("targets", KINDS.values(), ids=KINDS)
def test_the_whole_procedure_with_groups_is_rarely_wrong_in_many_draws(
    targets: list[Target],
) -> None:
    assert wrong_with_search(targets, 2000)[0] <= most(0.1, 2000)
    assert wrong_at_the_level(targets, 2000, 600) <= most(0.1, 2000)


def test_an_order_for_groups_ends_where_a_group_misses_the_target() -> None:
    rows = table(3000, 5)
    policies: list[Policy] = [answering(share) for share in np.linspace(0.05, 0.95, 19)]
    lookup = Lookup.of(rows, COSTS.at(rows.tokens))
    ordered = order(lookup, EACH, policies)
    mean = order(lookup, replace(EACH, group=None), policies)
    assert ordered[-1].cost > mean[-1].cost
    assert PEOPLE.excess(ordered[-1].policy, [EACH]) < 0.02 < PEOPLE.excess(mean[-1].policy, [EACH])
