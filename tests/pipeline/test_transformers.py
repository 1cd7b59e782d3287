"""Calls give what transformers' own text-classification pipeline gives, and routing beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_cascade import LABELS, tiny_texts
from transformers import TextClassificationPipeline
from transformers.pipelines.pt_utils import KeyDataset, KeyPairDataset

from adaptive.bundle.contents import Bundle
from adaptive.errors import InputError
from adaptive.options import own_model
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import tier_alone
from adaptive.text import tokens as token_rows

TEXTS = tiny_texts(9)
PAIRS = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]


@pytest.fixture(scope="module")
def theirs(tiny_cascade: Bundle) -> TextClassificationPipeline:
    model = tiny_cascade.tiers[2].backbone.model
    model.config.id2label = dict(enumerate(LABELS))
    return TextClassificationPipeline(
        model=model, tokenizer=tiny_cascade.tokenizer, device=torch.device("cpu")
    )


@pytest.fixture(scope="module")
def ours(tiny_cascade: Bundle) -> AdaptivePipeline:
    full = tier_alone(tiny_cascade.stages, 2)
    return AdaptivePipeline(replace(tiny_cascade, policy=full))


def bare(answer: Any) -> Any:
    """An answer without routing, scores rounded; each shape kept."""
    if isinstance(answer, list):
        return [bare(each) for each in answer]
    assert set(answer) <= {"label", "score", "routing"}
    return {"label": answer["label"], "score": pytest.approx(answer["score"], abs=1e-5)}


def plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    return {"label": answer["label"], "score": answer["score"]}


class Rows(torch.utils.data.Dataset[dict[str, str]]):
    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        return self.rows[index % len(self.rows)]  # torch promises no IndexError at the end


OPTIONS: list[dict[str, Any]] = [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "given", [TEXTS[0], TEXTS, PAIRS[0], PAIRS, {"text": TEXTS[0]}, TEXTS[:1]], ids=str
)
def test_texts_lists_and_pairs_are_answered_in_the_same_shape(
    ours: AdaptivePipeline, theirs: TextClassificationPipeline, given: Any, options: Any
) -> None:
    assert plain(ours(given, **options)) == bare(theirs(given, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda: (text for text in TEXTS),
        lambda: (pair for pair in PAIRS),
        lambda: KeyDataset(Rows(PAIRS), "text"),
        lambda: KeyPairDataset(Rows(PAIRS), "text", "text_pair"),
    ],
    ids=["generator", "generator of pairs", "key", "key pair"],
)
def test_generators_and_datasets_are_answered_one_after_another(
    ours: AdaptivePipeline,
    theirs: TextClassificationPipeline,
    make: Callable[[], Any],
    options: Any,
) -> None:
    answers = ours(make(), **options)
    assert isinstance(answers, Iterator)
    found = [plain(each) for each in islice(answers, 20)]
    assert found == [bare(each) for each in theirs(make(), **options)]


class Endless(torch.utils.data.IterableDataset[str]):
    def __iter__(self) -> Iterator[str]:
        return (TEXTS[i % len(TEXTS)] for i in count())


def test_endless_input_is_answered_lazily(ours: AdaptivePipeline) -> None:
    whole = ours(TEXTS)
    for endless in (Endless(), iter(Endless())):
        answers = ours(endless, batch_size=2)
        found = [next(answers) for _ in range(30)]
        assert plain(found) == [bare(whole[i % len(TEXTS)]) for i in range(30)]


@pytest.mark.parametrize(
    "given",
    [
        pd.Series(TEXTS, index=range(7, 16)),
        pd.DataFrame({"text": TEXTS})["text"],
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        tuple(TEXTS),
        dict.fromkeys(TEXTS).keys(),
    ],
    ids=["series", "frame's column", "array", "object array", "tuple", "keys"],
)
def test_columns_are_answered_as_lists(ours: AdaptivePipeline, given: Any) -> None:
    assert plain(ours(given)) == bare(ours(TEXTS))


def test_pairs_may_be_tuples_or_lists(ours: AdaptivePipeline) -> None:
    expected = bare(ours(PAIRS))
    assert plain(ours([(p["text"], p["text_pair"]) for p in PAIRS])) == expected
    assert plain(ours([[p["text"], p["text_pair"]] for p in PAIRS])) == expected


def test_labels_come_best_first_and_share_their_routing(ours: AdaptivePipeline) -> None:
    for answer in ours(TEXTS, top_k=None):
        scores = [each["score"] for each in answer]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert len({id(each["routing"]) for each in answer}) == 1


def test_nothing_is_answered_with_nothing(ours: AdaptivePipeline) -> None:
    assert ours([]) == []
    assert list(ours(iter([]))) == []


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"truncation": "longest"}, "truncation is 'longest'"),
        ({"truncation": "only_first"}, "truncation is 'only_first'"),
        ({"function_to_apply": "sigmoid"}, "sigmoid.*exclude each other.*'softmax' or 'none'"),
        ({"function_to_apply": "tanh"}, "function_to_apply is 'tanh'"),
        ({"padding": "left"}, "padding is 'left'"),
        ({"max_length": 33}, "max_length is 33; expected from 3 .* to 32"),
        ({"max_length": 2}, "max_length is 2; expected from 3"),
        ({"max_length": 8.0}, "max_length is 8.0"),
        ({"errors": "ignore"}, "errors is 'ignore'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(
    ours: AdaptivePipeline, option: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        ours(TEXTS, **option)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": True},
        {"padding": "max_length", "max_length": 32},
        {"function_to_apply": "softmax"},
        {"max_length": 8, "truncation": True},
        {"max_length": np.int64(8), "truncation": "longest_first", "top_k": None},
    ],
    ids=str,
)
def test_options_of_the_tokenizer_and_of_scores_mean_the_same(
    ours: AdaptivePipeline, theirs: TextClassificationPipeline, options: Any
) -> None:
    named = {"truncation": True, **options}
    assert plain(ours(TEXTS, **named)) == bare(theirs(TEXTS, **named))


def test_scores_without_softmax_are_logits_but_for_a_constant(
    ours: AdaptivePipeline, theirs: TextClassificationPipeline
) -> None:
    options: dict[str, Any] = {"top_k": None, "function_to_apply": "none"}
    for own, other in zip(ours(TEXTS, **options), theirs(TEXTS, **options), strict=True):
        apart = [a["score"] - b["score"] for a, b in zip(own, other, strict=True)]
        assert [a["label"] for a in own] == [b["label"] for b in other]
        assert apart == pytest.approx([apart[0]] * len(LABELS), abs=1e-4)
        assert sum(np.exp(a["score"]) for a in own) == pytest.approx(1, abs=1e-5)
    best = ours(TEXTS[0], function_to_apply="NONE")[0]
    assert best["score"] == pytest.approx(np.log(ours(TEXTS[0])[0]["score"]))


def test_model_tokenizer_and_device_are_where_transformers_has_them(
    ours: AdaptivePipeline, theirs: TextClassificationPipeline, tiny_cascade: Bundle
) -> None:
    assert ours.device == theirs.device and ours.tokenizer is theirs.tokenizer
    assert ours.model is theirs.model
    with torch.inference_mode():
        logits = ours.model(**ours.tokenizer(TEXTS[0], return_tensors="pt")).logits[0]
    assert ours.model.config.id2label[int(logits.argmax())] == ours(TEXTS[0])[0]["label"]
    mid = replace(tiny_cascade, tiers=tiny_cascade.tiers[:2], policy=None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"'mid'.*bundle\.tiers\[1\]"):
        own_model(mid)


def test_rows_may_be_shorter_than_the_bundles(tiny_cascade: Bundle) -> None:
    """That no certificate covers them is tested in test_certificate_coverage."""
    pipe, long = AdaptivePipeline(tiny_cascade), " ".join([TEXTS[0]] * 20)
    for length in (8, 16):
        windows = pipe([long], max_length=length, truncation="windows")[0]["routing"]["windows"]
        expected = token_rows.tokenize(
            pipe.tokenizer, [long], max_length=length, overflow="windows", stride=length // 4
        )
        assert windows == len(expected)
    with pytest.raises(InputError, match="the limit is 8"):
        pipe([long], max_length=8, truncation=False)
