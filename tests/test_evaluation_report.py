"""A report holds what counting by hand gives, for the policy and for each tier alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_cascade import tiny_texts

from adaptive import evaluation
from adaptive.bundle.contents import Bundle
from adaptive.evaluation import evaluate_texts, report, stage_name, timings, ways
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy import tier_alone
from adaptive.recording import outcomes
from adaptive.types import Tokens

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
