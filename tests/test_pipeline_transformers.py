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
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy import tier_alone

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
        ({"errors": "ignore"}, "errors is 'ignore'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(
    ours: AdaptivePipeline, option: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        ours(TEXTS, **option)
