"""An explanation is right: it tells what the pipeline did, in numbers and in words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_cascade import WORDS, tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.errors import InputError
from adaptive.measure.explain import Explanation
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import single_stage, tier_alone
from adaptive.tiers.tier import Tier
from adaptive.types import ALWAYS, NEVER, Policy

TEXTS = tiny_texts(30)
PAIRS = [*zip(TEXTS[:10], TEXTS[10:20], strict=True)]
KINDS = [
    "chosen",
    "routed",
    "no mid",
    "short mid",
    "no tiny",
    "no tiny, routed",
    "full alone",
    "early exit",
]


def make(bundle: Bundle, kind: str) -> AdaptivePipeline:
    chosen, stages = bundle.policy, bundle.stages
    no_mid = tuple(
        NEVER if s.tier == 1 else t for s, t in zip(stages, chosen.thresholds, strict=True)
    )
    no_tiny = Policy((1, 2), (NEVER, *chosen.thresholds[1:]))
    router: dict[str, Any] = {"risk_weight": 1.0, "entry_cost": (0.0, 0.0, 0.145)}
    early = chosen.with_threshold(3, NEVER).with_threshold(2, chosen.thresholds[3])
    policies = {
        "chosen": chosen,
        "short mid": early,  # its last exit is off
        "routed": replace(chosen, **router),
        "no mid": Policy((0, 2), no_mid),
        "no tiny": no_tiny,
        "no tiny, routed": replace(no_tiny, **router),
        "full alone": tier_alone(stages, 2),
        "early exit": single_stage(stages, 5),
    }
    return AdaptivePipeline(replace(bundle, policy=policies[kind]))


@pytest.mark.parametrize("items", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_explanation_agrees_with_the_answer(
    tiny_cascade: Bundle, kind: str, items: list[Any]
) -> None:
    pipe = make(tiny_cascade, kind)
    for item, answer in zip(items, pipe(items), strict=True):
        told, routing = pipe.explain(item), answer["routing"]
        assert (told.label, told.entered, told.unit, told.truncated) == (
            answer["label"],
            routing["entered"],
            routing["unit"],
            routing["truncated"],
        )
        assert told.score == pytest.approx(answer["score"], abs=1e-5)
        assert told.cost == pytest.approx(routing["cost"])
        (own,) = (stage for stage in told.stages if stage.answered)
        assert own.name == f"{routing['tier']}@{routing['depth']}"
        assert (own.label, own.probability) == (told.label, told.score)
        if routing["reliability"] is not None:
            assert own.reliability == pytest.approx(routing["reliability"], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_said_to_run_where_their_head_does(
    tiny_cascade: Bundle, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make(tiny_cascade, kind)
    told = [pipe.explain(text) for text in TEXTS]
    ran: set[str] = set()
    answer = Tier.answer

    def watched(self: Tier, state: Any, exit: int) -> tuple[torch.Tensor, torch.Tensor]:
        ran.add(f"{self.name}@{self.depths[exit]}")
        return answer(self, state, exit)

    monkeypatch.setattr(Tier, "answer", watched)
    for text, each in zip(TEXTS, told, strict=True):
        ran.clear()
        pipe(text)
        assert {stage.name for stage in each.stages if stage.ran} == ran


def test_a_text_that_stops_early_is_told(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "chosen")
    told = next(e for e in map(pipe.explain, TEXTS) if e.stages[0].answered)
    first = told.stages[0]
    assert first.threshold is not None and first.reliability >= first.threshold
    assert str(told).splitlines() == [
        f"{told.tokens} tokens, entered at tiny, where the policy starts; no router decides",
        f"  tiny@0: {first.label!r} with {first.probability:.0%}, reliability "
        f"{first.reliability:.3f}; reaches {first.threshold:.3f}; answered",
        f"answer {first.label!r} with {first.probability:.0%} at a cost of {told.cost:.3g} "
        "layers x tokens",
    ]


def test_a_text_that_goes_to_the_end_is_told(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "chosen")
    told = next(e for e in map(pipe.explain, TEXTS) if e.stages[-1].answered)
    lines = str(told).splitlines()
    names = ["tiny@0", "mid@0", "mid@1", "mid@2", "full@0", "full@2", "full@3"]
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == names
    for line, stage in zip(lines[1:-1], told.stages, strict=True):
        if stage.name == "mid@1":  # the policy switched it off
            assert line.endswith("; switched off; went on")
        elif stage.name == "full@3":
            assert line.endswith("; answers all that get here")
        else:
            found = re.search(r"reliability (\S+); stays below (\S+); went on$", line)
            assert found and float(found[1]) < float(found[2])
            assert stage.threshold is not None and stage.reliability < stage.threshold


def test_a_routed_text_is_told_what_the_router_saw(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "routed")
    told = [pipe.explain(text) for text in TEXTS]
    assert {each.entered for each in told} == {"tiny", "mid", "full"}
    for each in told:
        assert each.price is not None and each.risk is not None
        assert each.price[each.entered] == min(each.price.values())
        for tier, free in (("tiny", 0.0), ("mid", 0.0), ("full", 0.145)):
            assert each.price[tier] == pytest.approx(free + each.risk[tier])
        lines = str(each).splitlines()
        assert lines[0] == f"{each.tokens} tokens, entered at {each.entered} by the router"
        assert f"log length {each.statistics['log_length']:.2f}" in lines[1]
        assert f"{each.entered} {each.price[each.entered]:.3g} (risk " in lines[2]
        looked = "looked first; the text entered further on" in lines[3]
        assert looked == (each.entered != "tiny")
        assert ("mid@" in "".join(lines[3:])) <= (each.entered != "full")


def test_a_policy_of_one_stage_answers_all_that_get_there(tiny_cascade: Bundle) -> None:
    told = make(tiny_cascade, "early exit").explain(TEXTS[0])
    lines = str(told).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("entered at full, where the policy starts; no router decides")
    assert lines[1].startswith("  full@2: ") and lines[1].endswith("; answers all that get here")


def test_an_exit_that_all_texts_pass_is_told_so(tiny_cascade: Bundle) -> None:
    policy = tiny_cascade.policy.with_threshold(1, ALWAYS)
    pipe = AdaptivePipeline(replace(tiny_cascade, policy=policy))
    told = next(e for e in map(pipe.explain, TEXTS) if e.stages[1].answered)
    assert "inf" not in str(told)


def test_a_reliability_just_below_its_threshold_does_not_look_equal(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "chosen")
    text = next(text for text in TEXTS if not pipe.explain(text).stages[0].answered)
    reliability = pipe.explain(text).stages[0].reliability
    policy = tiny_cascade.policy.with_threshold(0, reliability + 2e-5)
    told = AdaptivePipeline(replace(tiny_cascade, policy=policy)).explain(text)
    found = re.search(r"reliability (\S+); stays below (\S+);", str(told.stages[0]))
    assert found and float(found[1]) < float(found[2])


def test_a_long_text_is_cut_and_says_so(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "chosen")
    told: Explanation = pipe.explain(" ".join(WORDS))
    assert told.truncated and str(told).startswith("32 tokens (cut), entered at")


@pytest.mark.parametrize("item", [None, 3, "\ud800", ("a", None), {"txt": "a"}])
def test_what_is_no_text_cannot_be_explained(tiny_cascade: Bundle, item: Any) -> None:
    with pytest.raises(InputError, match="item 0"):
        make(tiny_cascade, "chosen").explain(item)


def test_a_pair_may_be_a_tuple_or_a_mapping(tiny_cascade: Bundle) -> None:
    pipe = make(tiny_cascade, "routed")
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    assert pipe.explain(pair) == pipe.explain((TEXTS[0], TEXTS[1]))
    assert pipe.explain(pair).tokens > pipe.explain(TEXTS[0]).tokens
    assert str(pipe.explain("")).startswith("2 tokens")
