"""Attributions add up to what the text did for its answer, and blame the right tokens."""

from __future__ import annotations

import builtins
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import LABELS, tiny_texts, tiny_tokenizer
from tiny_transformers import tiny_backbone
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from adaptive.bundle.contents import Bundle
from adaptive.measure.attributions import attribute, readable
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import single_stage, tier_alone
from adaptive.tiers.bag import Bag
from adaptive.tiers.state import Packed, State
from adaptive.tiers.tier import Tier

pytest.importorskip("captum")
TEXT = "word3 word7 word1 word20"


def with_full(bundle: Bundle, family: str) -> Bundle:
    """The cascade with a full tier of another family."""
    full = Tier("full", tiny_backbone(family), (0, 2, 4), LABELS, own_head=True).eval()
    return replace(bundle, tiers=(*bundle.tiers[:2], full))


def pipeline(bundle: Bundle, stage: int) -> AdaptivePipeline:
    return AdaptivePipeline(replace(bundle, policy=single_stage(bundle.stages, stage), costs=None))


def _item(sides: list[str]) -> Any:
    return sides[0] if len(sides) == 1 else tuple(sides)


@pytest.mark.parametrize("family", ["bert", "llama", "modernbert"])
@pytest.mark.parametrize("stage", [4, 6], ids=["on the embeddings", "behind the last layer"])
@pytest.mark.parametrize("item", [TEXT, (TEXT, "word9 word2")], ids=["text", "pair"])
def test_scores_add_up_to_the_change_from_a_blank_text(
    tiny_cascade: Bundle, family: str, stage: int, item: Any
) -> None:
    """The tokenizer has no mask token, so the unknown one stands in each place of the blank."""
    pipe = pipeline(with_full(tiny_cascade, family), stage)
    found = attribute(pipe, item)
    sides = [item] if isinstance(item, str) else [*item]
    blank = [" ".join(["?"] * len(side.split())) for side in sides]
    whole, nothing = pipe([_item(sides), _item(blank)], top_k=None)
    best = whole[0]
    before = next(each["score"] for each in nothing if each["label"] == best["label"])
    change = math.log(best["score"]) - math.log(before)
    sees_only_the_mark = (family, stage) == ("llama", 4)
    assert (abs(change) > 1e-3) != sees_only_the_mark
    assert sum(score for _, score in found) == pytest.approx(change, rel=0.02, abs=1e-3)
    words = " [SEP] ".join(sides).split()
    assert [token for token, _ in found] == ["[CLS]", *words, "[SEP]"]
    assert all(score == 0 for token, score in found if token in ("[CLS]", "[SEP]"))


@pytest.mark.parametrize("pairs", [0, 64], ids=["words", "words and pairs"])
def test_the_bags_scores_add_up_to_the_change_from_no_text(
    tiny_cascade: Bundle, pairs: int
) -> None:
    torch.manual_seed(0)
    bag = Bag(44, 32, pairs)
    torch.nn.init.normal_(bag.score)
    if bag.pairs is not None:
        torch.nn.init.normal_(bag.pairs)
    tier = Tier("tiny", bag, (0,), LABELS).eval()
    torch.nn.init.normal_(tier.heads[0].norm.bias)
    pipe = pipeline(replace(tiny_cascade, tiers=(tier, *tiny_cascade.tiers[1:])), 0)
    found = attribute(pipe, TEXT)
    best = pipe(TEXT)[0]
    with torch.no_grad():
        layout = Packed(np.ones(1, dtype=np.int64), torch.device("cpu"))
        nothing, _ = tier.answer(State(torch.zeros(1, 1, 32), layout), 0)
    before = nothing.log_softmax(1)[0, LABELS.index(best["label"])].item()
    change = math.log(best["score"]) - before
    assert abs(change) > 0.05
    assert sum(score for _, score in found) == pytest.approx(change, rel=0.02)


def test_the_word_that_decides_gets_the_credit(tiny_cascade: Bundle) -> None:
    bag = Bag(44, 32)
    tier = Tier("tiny", bag, (0,), LABELS).eval()
    with torch.no_grad():
        bag.table.weight.mul_(0.01)
        good = tier.heads[0].classifier.weight[1]
        bag.table.weight[4 + 7] = 3 * good / good.norm()  # word7
    pipe = pipeline(replace(tiny_cascade, tiers=(tier, *tiny_cascade.tiers[1:])), 0)
    assert pipe(TEXT)[0]["label"] == "good"
    found = dict(attribute(pipe, TEXT))
    assert max(found, key=lambda token: found[token]) == "word7"
    assert found["word7"] > 5 * max(abs(s) for token, s in found.items() if token != "word7")


def test_what_a_stage_cannot_see_gets_nothing(tiny_cascade: Bundle) -> None:
    """Before any layer, a decoder's exit sees the last token alone."""
    pipe = pipeline(with_full(tiny_cascade, "llama"), 4)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    pipe = AdaptivePipeline(replace(pipe.bundle, tokenizer=tokenizer))
    *earlier, last = attribute(pipe, TEXT)
    assert last[0] == "word20" and abs(last[1]) > 1e-3
    assert all(score == 0 for _, score in earlier)


def test_attributions_are_of_the_stage_that_answered(tiny_cascade: Bundle) -> None:
    pipe = AdaptivePipeline(tiny_cascade)
    tiers = set()
    for text in tiny_texts(30):
        routing = pipe(text)[0]["routing"]
        stage = next(
            k
            for k, s in enumerate(tiny_cascade.stages)
            if (tiny_cascade.tiers[s.tier].name, s.exit) == (routing["tier"], routing["exit"])
        )
        if routing["tier"] not in tiers:
            tiers.add(routing["tier"])
            expected = attribute(pipeline(tiny_cascade, stage), text)
            assert attribute(pipe, text) == expected
            assert pipe.explain(text, attributions=True).attributions == tuple(expected)
    assert tiers == {"tiny", "mid", "full"}


def test_an_explanation_tells_attributions_only_where_wanted(tiny_cascade: Bundle) -> None:
    pipe = AdaptivePipeline(tiny_cascade)
    assert pipe.explain(TEXT).attributions == ()
    assert "nats" not in str(pipe.explain(TEXT))
    told = pipe.explain(TEXT, attributions=True)
    line = str(told).splitlines()[-1]
    assert line.startswith("what each token did for it, in nats: ")
    assert all(f"{token} {score:+.2f}" in line for token, score in told.attributions)


def test_attributions_work_in_bfloat16_and_leave_no_gradients(tiny_cascade: Bundle) -> None:
    tier = Tier("full", tiny_backbone("bert").bfloat16(), (0, 2, 4), LABELS, own_head=True).eval()
    bundle = replace(tiny_cascade, tiers=(*tiny_cascade.tiers[:2], tier))
    pipe = AdaptivePipeline(replace(bundle, policy=tier_alone(bundle.stages, 2), costs=None))
    assert all(math.isfinite(score) for _, score in attribute(pipe, TEXT))
    assert all(parameter.grad is None for parameter in tier.parameters())


def test_without_captum_the_extra_is_named(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("captum"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    pipe = AdaptivePipeline(tiny_cascade)
    assert pipe.explain(TEXT)
    with pytest.raises(ImportError, match=r"pip install 'adaptive-cascade\[explain\]'"):
        pipe.explain(TEXT, attributions=True)


def test_tokens_of_bytes_are_shown_as_the_text_that_they_are() -> None:
    own = ByteLevelBPETokenizer()
    own.train_from_iterator(["快递破损 für"] * 4, vocab_size=300, min_frequency=2)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own._tokenizer)
    ids = tokenizer("快递破损 für").input_ids
    assert "".join(readable(tokenizer, ids)) == "快递破损 für"
    assert "快" not in "".join(tokenizer.convert_ids_to_tokens(ids))
    assert "\ufffd" in readable(tokenizer, tokenizer("递快").input_ids)  # parts of characters
    words = tiny_tokenizer()
    assert readable(words, [2, 5]) == words.convert_ids_to_tokens([2, 5])
