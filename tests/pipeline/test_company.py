"""An answer does not depend on its company: batches, order, threads; long texts and dtypes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import WORDS, tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.config import Preset
from adaptive.engine import answer
from adaptive.errors import ConfigError, InputError
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import Lookup, predicted, tier_alone
from adaptive.text import tokens as token_rows
from adaptive.types import Policy

TEXTS = tiny_texts(60)
LONG = " ".join(WORDS * 2)  # 80 words, 30 fit


def routed(policy: Policy) -> Policy:
    return replace(policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))


def pipeline(bundle: Bundle, policy: Policy | None = None, **preset: Any) -> AdaptivePipeline:
    bundle = bundle if policy is None else replace(bundle, policy=policy)
    return AdaptivePipeline(bundle, Preset(bundle="tiny", **preset))


def columns(answers: list[Any]) -> dict[str, list[Any]]:
    """What must be the same in any company; scores apart, as they round."""
    names = ("tier", "exit", "depth", "entered", "cost", "unit", "windows", "truncated")
    found = {name: [each["routing"][name] for each in answers] for name in names}
    return {"label": [each["label"] for each in answers], **found}


def scores(answers: list[Any]) -> list[list[float]]:
    return [
        [each["score"], np.nan if (r := each["routing"]["reliability"]) is None else r]
        for each in answers
    ]


@pytest.mark.parametrize("kind", ["chosen", "routed", "full alone"])
def test_answers_are_the_same_in_any_batches_and_order(tiny_cascade: Bundle, kind: str) -> None:
    policies = {
        "chosen": tiny_cascade.policy,
        "routed": routed(tiny_cascade.policy),
        "full alone": tier_alone(tiny_cascade.stages, 2),
    }
    pipe = pipeline(tiny_cascade, policies[kind], overflow="windows")
    texts = [*TEXTS, LONG, ""]
    whole = pipe(texts)
    shuffled = np.random.default_rng(0).permutation(len(texts)).tolist()
    for batch_size, order in ((1, range(len(texts))), (5, shuffled), (64, shuffled[:9])):
        others = pipe([texts[i] for i in order], batch_size=batch_size)
        expected = [whole[i] for i in order]
        assert columns(others) == columns(expected)
        np.testing.assert_allclose(scores(others), scores(expected), atol=1e-5)
    if kind != "full alone":
        assert {each["routing"]["tier"] for each in whole} == {"tiny", "mid", "full"}


@pytest.mark.parametrize("kind", ["chosen", "routed", "full alone"])
def test_routing_tells_what_the_outcome_and_cost_tables_say(
    tiny_cascade: Bundle, kind: str
) -> None:
    policies = {
        "chosen": tiny_cascade.policy,
        "routed": routed(tiny_cascade.policy),
        "full alone": tier_alone(tiny_cascade.stages, 2),
    }
    policy = policies[kind]
    pipe = pipeline(tiny_cascade, policy)
    table = outcomes(tiny_cascade, pipe.tokenize(TEXTS), np.full(60, -1, np.int32), 16)
    costs = work_of(tiny_cascade.tiers, tiny_cascade.router).at(table.tokens)
    expected = Lookup.of(table, costs).evaluate(policy)
    labels = predicted(expected, table)
    for row, each in enumerate(pipe(TEXTS)):
        stage = tiny_cascade.stages[expected.stage[row]]
        routing = each["routing"]
        assert each["label"] == tiny_cascade.labels[labels[row]]
        assert (routing["exit"], routing["depth"]) == (stage.exit, stage.depth)
        assert routing["tier"] == tiny_cascade.tiers[stage.tier].name
        assert routing["entered"] == tiny_cascade.tiers[expected.entry[row]].name
        assert routing["cost"] == pytest.approx(expected.cost[row])
        assert routing["unit"] == "layers x tokens"
        own = table.reliability[row, expected.stage[row]]
        assert routing["reliability"] == (
            None if kind == "full alone" else pytest.approx(own, abs=1e-5)
        )


def test_eight_threads_get_what_one_gets(tiny_bundle: Path) -> None:
    """From a fresh tokenizer: its settings are what threads could trip over."""
    pipe = AdaptivePipeline.from_config(tiny_bundle)
    jobs: list[tuple[str, Any]] = [("truncate", TEXTS[i : i + 8]) for i in range(0, 48, 8)]
    jobs += [("windows", [LONG, TEXTS[0]]), ("truncate", [LONG, ("a", "b")])] * 5
    jobs += [("truncate", [(LONG, LONG), (TEXTS[0], "word1")])] * 4

    def work(job: tuple[str, Any]) -> list[Any]:
        found: list[Any] = pipe(job[1], truncation=job[0], errors="return")
        return found

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, jobs * 3))
    for found, expected in zip(together, [work(job) for job in jobs] * 3, strict=True):
        for one, other in zip(found, expected, strict=True):
            if "error" in other:
                assert one == other
            else:
                assert columns([one]) == columns([other])
                assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_long_texts_are_cut_and_say_so(tiny_cascade: Bundle) -> None:
    pipe = pipeline(tiny_cascade)
    for truncation in (None, True, "truncate"):
        short, long = pipe([TEXTS[0], LONG], truncation=truncation)
        assert not short["routing"]["truncated"]
        assert long["routing"]["truncated"] and long["routing"]["windows"] == 1
        assert long["score"] == pytest.approx(pipe(" ".join(WORDS[:30]))[0]["score"], abs=1e-5)


def test_long_texts_are_refused_where_wanted(tiny_cascade: Bundle) -> None:
    for pipe, truncation in (
        (pipeline(tiny_cascade), False),
        (pipeline(tiny_cascade), "error"),
        (pipeline(tiny_cascade, overflow="error"), None),
    ):
        with pytest.raises(InputError, match="item 1: 82 tokens, the limit is 32") as caught:
            pipe([TEXTS[0], LONG, TEXTS[1]], truncation=truncation)
        assert columns([(caught.value.answers or [])[2]]) == columns(pipe(TEXTS[1]))


def test_windows_give_the_mean_of_their_answers(tiny_cascade: Bundle) -> None:
    pipe = pipeline(tiny_cascade, overflow="windows", stride=10)
    found = pipe([TEXTS[0], LONG, TEXTS[1]], top_k=None)
    tokens = token_rows.tokenize(
        tiny_cascade.tokenizer, [LONG], max_length=32, overflow="windows", stride=10
    )
    rows = answer(tiny_cascade, tokens, tiny_cascade.policy, 8)
    mean = dict(zip(tiny_cascade.labels, rows.probabilities.mean(0).tolist(), strict=True))
    assert {each["label"]: each["score"] for each in found[1]} == pytest.approx(mean, abs=1e-5)
    routing = found[1][0]["routing"]
    assert routing["windows"] == len(tokens) == 4 and not routing["truncated"]
    deepest = tiny_cascade.stages[int(rows.stage.max())]
    assert (routing["tier"], routing["exit"]) == (
        tiny_cascade.tiers[deepest.tier].name,
        deepest.exit,
    )
    assert routing["reliability"] == pytest.approx(float(rows.reliability.min()), abs=1e-5)
    alone = [pipe(tiny_cascade.tokenizer.decode(window[1:-1]))[0] for window in _rows(tokens)]
    assert routing["cost"] == pytest.approx(sum(each["routing"]["cost"] for each in alone))
    assert columns([found[0][0], found[2][0]]) == columns(pipe(TEXTS[:2]))


def _rows(tokens: Any) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def test_a_pair_without_room_for_windows_is_refused_alone(tiny_cascade: Bundle) -> None:
    pipe = pipeline(tiny_cascade, overflow="windows")
    given = [(TEXTS[0], "word1"), (" ".join(WORDS[:28]), LONG), (LONG, "word2")]
    with pytest.raises(InputError, match="item 1: windows of 32 tokens") as caught:
        pipe(given)
    answers = caught.value.answers or []
    assert list(caught.value.faults) == [1]
    assert columns(answers[:1]) == columns(pipe(given[:1]))
    assert answers[2]["routing"]["windows"] > 1


def test_a_stride_that_leaves_no_room_is_refused(tiny_cascade: Bundle) -> None:
    with pytest.raises(ConfigError, match="stride: 30 is too much for windows of 32 tokens"):
        pipeline(tiny_cascade, stride=30)
    assert pipeline(tiny_cascade, stride=29)(LONG, truncation="windows")


def test_bfloat16_answers_much_as_float32_does(tiny_bundle: Path) -> None:
    half = AdaptivePipeline.from_config(tiny_bundle, dtype="bfloat16")
    assert {p.dtype for t in half.bundle.tiers for p in t.parameters()} == {torch.bfloat16}
    for policy in (half.policy, routed(half.policy), tier_alone(half.bundle.stages, 2)):
        found = pipeline(half.bundle, policy)([*TEXTS, LONG], truncation="windows")
        assert all(0 < each["score"] <= 1 for each in found)
    whole = AdaptivePipeline.from_config(tiny_bundle)
    full = tier_alone(half.bundle.stages, 2)
    pairs = zip(
        pipeline(half.bundle, full)(TEXTS), pipeline(whole.bundle, full)(TEXTS), strict=True
    )
    same = [one["label"] == other["label"] for one, other in pairs]
    assert np.mean(same) > 0.9
