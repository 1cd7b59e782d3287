"""A report holds what counting by hand gives, for the policy and for each tier alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.cli.evaluate import _single
from adaptive.measure import evaluation
from adaptive.measure.evaluation import (
    best_single,
    evaluate_texts,
    report,
    stage_name,
    timings,
    ways,
)
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import evaluate, tier_alone
from adaptive.types import Groups, Target, Tokens

TEXTS = tiny_texts(40)
WAYS = ["policy", "tiny alone", "mid alone", "full alone"]


@pytest.fixture(scope="module")
def tokens(tiny_cascade: Bundle) -> Tokens:
    return AdaptivePipeline(tiny_cascade).tokenize(TEXTS)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(0, 3, 40).astype(np.int32)


def test_figures_are_what_the_pipeline_does(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    found = report(tiny_cascade, tiny_cascade.policy, outcomes(tiny_cascade, tokens, labels, 8))
    assert [row["name"] for row in found["rows"]] == WAYS
    full = AdaptivePipeline(replace(tiny_cascade, policy=tier_alone(tiny_cascade.stages, 2)))
    best = [each["label"] for each in full(TEXTS)]
    truth = [tiny_cascade.labels[label] for label in labels]
    for row, way in zip(
        found["rows"], ways(tiny_cascade, tiny_cascade.policy).values(), strict=True
    ):
        answers = AdaptivePipeline(replace(tiny_cascade, policy=way))(TEXTS)
        said = [each["label"] for each in answers]
        assert row["accuracy"] == pytest.approx(
            np.mean([a == b for a, b in zip(said, truth, strict=True)])
        )
        assert row["agreement"] == pytest.approx(
            np.mean([a == b for a, b in zip(said, best, strict=True)])
        )
        assert row["work"] == pytest.approx(np.mean([each["routing"]["cost"] for each in answers]))
    policy, *_, alone = found["rows"]
    assert alone["agreement"] == 1
    assert found["accuracy_ratio"] == pytest.approx(policy["accuracy"] / alone["accuracy"])
    assert found["work_ratio"] == pytest.approx(alone["work"] / policy["work"])


def test_shares_of_stages_add_up_and_name_who_answered(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    found = report(tiny_cascade, tiny_cascade.policy, outcomes(tiny_cascade, tokens, labels, 8))
    routings = [each["routing"] for each in AdaptivePipeline(tiny_cascade)(TEXTS)]
    names = [f"{each['tier']}@{each['depth']}" for each in routings]
    assert found["stage_shares"] == {
        name: pytest.approx(names.count(name) / 40) for name in sorted(set(names), key=names.index)
    }
    assert len(found["stage_shares"]) > 3
    order = [stage_name(tiny_cascade, k) for k in range(len(tiny_cascade.stages))]
    assert [name for name in order if name in found["stage_shares"]] == [*found["stage_shares"]]


@pytest.mark.parametrize("unknown", [40, 1])
def test_without_all_labels_there_is_agreement_but_no_accuracy(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32], unknown: int
) -> None:
    some = np.where(np.arange(40) < unknown, -1, labels).astype(np.int32)
    found = report(tiny_cascade, tiny_cascade.policy, outcomes(tiny_cascade, tokens, some, 8))
    assert {row["accuracy"] for row in found["rows"]} == {None}
    assert found["accuracy_ratio"] is None
    assert all(0 < row["agreement"] <= 1 for row in found["rows"])


def test_a_bundle_without_outcomes_costs_and_router_is_evaluated(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    plain = replace(tiny_cascade, outcomes={}, costs=None, ladder=(), router=None)
    found = evaluate_texts(plain, plain.policy, tokens, labels, batch_size=8)
    assert [row["name"] for row in found["rows"]] == WAYS
    assert all(row["milliseconds"] > 0 for row in found["rows"])
    policy, *_, full = found["rows"]
    assert found["time_ratio"] == pytest.approx(full["milliseconds"] / policy["milliseconds"])
    assert found["batch_size"] == 8


def test_times_are_medians_a_text_of_turns_after_a_warm_up(
    tiny_cascade: Bundle, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Any] = []
    taken = iter([9.0, 9.0, 0.1, 0.4, 0.3, 0.6, 0.2, 0.5])  # the first two warm up

    def seconds(bundle: Bundle, some: Tokens, policy: Any, batch_size: int) -> float:
        turns.append((len(some), policy, batch_size))
        return next(taken)

    monkeypatch.setattr(evaluation, "_seconds", seconds)
    monkeypatch.setattr(evaluation, "TIMED", 10)
    found = timings(tiny_cascade, {"a": "first", "b": "second"}, tokens, 4)  # type: ignore[dict-item]
    assert found == {"a": pytest.approx(20), "b": pytest.approx(50)}
    assert turns == [(10, "first", 4), (10, "second", 4)] * 4


def single(bundle: Bundle, tokens: Tokens, labels: NDArray[np.int32], **about: Any) -> Any:
    """The best single tier, where tiny takes 1 ms, mid 2, the policy 3 and full 4."""
    table = outcomes(bundle, tokens, labels, 8)
    table = replace(table, groups=about.pop("groups", {}))
    bundle = replace(bundle, targets=(Target(**about),))
    rows = report(bundle, bundle.policy, table)["rows"]
    times = {"tiny alone": 1.0, "mid alone": 2.0, "policy": 3.0, "full alone": 4.0}
    rows = [{**row, "milliseconds": times[row["name"]]} for row in rows]
    return best_single(bundle, bundle.policy, table, rows)


def test_the_best_single_tier_is_the_fastest_that_keeps_the_target(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    found = outcomes(tiny_cascade, tokens, labels, 8)
    full = tier_alone(tiny_cascade.stages, 2)
    differs = [
        np.mean(evaluate(way, found, found_costs(tiny_cascade, found)).alike != 1.0)
        for way in (tier_alone(tiny_cascade.stages, 0), tier_alone(tiny_cascade.stages, 1), full)
    ]
    assert differs[0] > differs[2] == 0 and differs[1] > 0
    for level, name in ((1.0, "tiny alone"), (0.0, "full alone"), (differs[0], "tiny alone")):
        best = single(tiny_cascade, tokens, labels, metric="agreement", level=level)
        assert best["name"] == name
    best = single(tiny_cascade, tokens, labels, metric="agreement", level=1.0)
    assert (best["time_ratio"], best["policy_time_ratio"]) == (4.0, 3.0)
    assert best["work_ratio"] > 1 and best["accuracy_ratio"] > 0


def test_a_tier_that_misses_the_target_in_a_group_does_not_keep_it(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    found = outcomes(tiny_cascade, tokens, labels, 8)
    alone, costs = tier_alone(tiny_cascade.stages, 0), found_costs(tiny_cascade, found)
    alike = evaluate(alone, found, costs).alike
    groups = {"agrees": Groups(("no", "yes"), alike.astype(np.int32))}
    whole: dict[str, Any] = {"metric": "agreement"}
    whole["level"] = float(1.0 - alike.mean())
    assert single(tiny_cascade, tokens, labels, groups=groups, **whole)["name"] == "tiny alone"
    best = single(tiny_cascade, tokens, labels, groups=groups, **whole, group="agrees")
    assert best["name"] != "tiny alone"
    assert single(tiny_cascade, tokens, labels, **whole, group="agrees") is None  # not known


def test_without_labels_or_a_tier_that_keeps_the_target_there_is_no_best_one(
    tiny_cascade: Bundle, tokens: Tokens, labels: NDArray[np.int32]
) -> None:
    unknown = np.full(40, -1, np.int32)
    assert single(tiny_cascade, tokens, unknown, metric="accuracy", level=0.1) is None
    assert single(tiny_cascade, tokens, labels, metric="accuracy", level=1.0) is None


def test_the_closing_line_says_what_the_policy_is_worth_against_it() -> None:
    best = {"name": "mid alone", "work_ratio": 3.04, "time_ratio": 2.5, "accuracy_ratio": 0.998}
    told = _single(best | {"policy_time_ratio": 1.25})
    assert "mid alone, against the full tier: 3.0 times less work, 2.5 times less time" in told
    assert "99.80% of its accuracy; the policy takes 1.25 times more time than it" in told
    assert "takes 2.00 times less time" in _single(best | {"policy_time_ratio": 0.5})
    assert "no tier alone" in _single(None)


def found_costs(bundle: Bundle, table: Any) -> Any:
    return work_of(bundle.tiers, bundle.router).at(table.tokens)
