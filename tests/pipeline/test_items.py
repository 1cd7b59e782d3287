"""Odd items: handled, or refused by index while the others are answered as without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_cascade import WORDS, tiny_texts

from adaptive import pipeline as module
from adaptive.bundle.contents import Bundle
from adaptive.errors import InputError
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import tier_alone

TEXTS = tiny_texts(12)
ODD: dict[str, tuple[Any, str]] = {
    "nan": (float("nan"), "NaN"),
    "numpy nan": (np.float32("nan"), "float32"),
    "none": (None, "found None"),
    "missing": (pd.NA, "NAType"),
    "int": (7, "found int"),
    "float": (0.5, "found float"),
    "bytes": (b"word1", "found bytes"),
    "surrogate": ("word1 \ud800", "lone surrogate U\\+D800"),
    "list": (["a", "b", "c"], "found 3 in a list"),
    "strange mapping": ({"txt": "a"}, "expected the keys"),
    "pair with none": (("a", None), "second text: .*None"),
}


@pytest.fixture(scope="module")
def pipe(tiny_cascade: Bundle) -> AdaptivePipeline:
    return AdaptivePipeline(tiny_cascade)


@pytest.fixture(scope="module")
def alone(pipe: AdaptivePipeline) -> list[Any]:
    return [pipe(text)[0] for text in TEXTS]


def alike(found: Any, expected: Any) -> bool:
    """Equal, numbers up to rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    return bool(found == expected)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_item_is_named_and_its_mates_are_answered_all_the_same(
    pipe: AdaptivePipeline, alone: list[Any], odd: str
) -> None:
    item, why = ODD[odd]
    given = [*TEXTS[:5], item, *TEXTS[5:]]
    with pytest.raises(InputError, match=f"item 5: .*{why}") as caught:
        pipe(given)
    expected = [*alone[:5], None, *alone[5:]]
    assert list(caught.value.faults) == [5]
    assert alike(caught.value.answers, expected)
    returned = pipe(given, errors="return")
    assert alike(returned[:5] + returned[6:], alone)
    assert returned[5] == {"error": caught.value.faults[5]}


@pytest.mark.parametrize("odd", [None, float("nan"), 7, b"word1", np.array("word1"), "\udc00"])
def test_a_single_odd_value_is_refused(pipe: AdaptivePipeline, odd: Any) -> None:
    with pytest.raises(InputError, match="item 0: ") as caught:
        pipe(odd)
    assert caught.value.answers == [None]
    assert pipe(odd, errors="return") == [{"error": caught.value.faults[0]}]


def test_a_whole_table_is_refused_and_not_answered_by_its_column_names(
    pipe: AdaptivePipeline,
) -> None:
    with pytest.raises(InputError, match="found a DataFrame; give one of its columns"):
        pipe(pd.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u00a0", "\u3000", "\x00", "😀" * 3])
def test_blank_and_strange_texts_are_answered(
    pipe: AdaptivePipeline, alone: list[Any], text: str
) -> None:
    answers = pipe([text, *TEXTS])
    assert 0 < answers[0]["score"] <= 1
    assert alike(answers[1:], alone)


def test_a_million_characters_are_cut_and_harm_nobody(
    pipe: AdaptivePipeline, alone: list[Any]
) -> None:
    giant = "word1 " * (10**6 // 6)
    answers = pipe([*TEXTS[:6], giant, *TEXTS[6:]])
    assert answers[6]["routing"]["truncated"]
    assert alike(answers[6], pipe("word1 " * 100)[0])
    assert alike(answers[:6] + answers[7:], alone)
    unbroken = pipe("x" * 10**6)[0]["routing"]
    assert not unbroken["truncated"]


def test_a_hundred_thousand_items_come_back_in_order(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd ones are placed on both sides of the pieces' borders."""
    sizes: list[int] = []
    answer = module.answer

    def counted(bundle: Any, tokens: Any, *others: Any, **options: Any) -> Any:
        sizes.append(len(tokens))
        return answer(bundle, tokens, *others, **options)

    monkeypatch.setattr(module, "answer", counted)
    policy = tier_alone(tiny_cascade.stages, 0)  # the layers are not what is tested
    pipe = AdaptivePipeline(replace(tiny_cascade, policy=policy))
    given: list[Any] = [WORDS[i % 40] for i in range(100_000)]
    odd = [0, module.CHUNK - 1, module.CHUNK, 99_999]
    for index in odd:
        given[index] = None
    with pytest.raises(InputError) as caught:
        pipe(given)
    answers = caught.value.answers or []
    assert list(caught.value.faults) == odd
    assert [i for i, each in enumerate(answers) if each is None] == odd
    scores = [each["score"] for each in pipe(WORDS)]
    assert len({round(score, 4) for score in scores}) > 30
    found = np.array([np.nan if each is None else each["score"] for each in answers])
    expected = np.resize(scores, 100_000)
    expected[odd] = np.nan
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(sizes) <= module.CHUNK


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


@pytest.mark.usefixtures("short_chunks")
def test_the_call_as_a_whole_decides_between_pairs_and_single_texts(
    pipe: AdaptivePipeline,
) -> None:
    """The first piece alone would have chosen pairs."""
    given: list[Any] = [("word1", "word2")] * 4 + TEXTS[:8]
    with pytest.raises(InputError, match="found a pair among single texts") as caught:
        pipe(given)
    assert list(caught.value.faults) == [0, 1, 2, 3]
    assert alike((caught.value.answers or [])[4:], pipe(TEXTS[:8]))


@pytest.mark.usefixtures("short_chunks")
def test_faults_behind_the_first_piece_keep_their_index(pipe: AdaptivePipeline) -> None:
    long = " ".join(WORDS)
    given = [*TEXTS[:5], long, *TEXTS[5:], None]
    with pytest.raises(InputError) as caught:
        pipe(given, truncation=False)
    assert list(caught.value.faults) == [5, 13]
    assert "tokens, the limit is 32" in caught.value.faults[5]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_streams_first_item_decides_between_pairs_and_single_texts(
    pipe: AdaptivePipeline, batch_size: int
) -> None:
    """However the stream is cut: here pairs are the most by far."""
    given: list[Any] = [None, TEXTS[0], *[("word1", "word2")] * 20, TEXTS[1]]
    answers = list(pipe(iter(given), batch_size=batch_size, errors="return"))
    assert alike([answers[1], answers[-1]], pipe(TEXTS[:2]))
    assert all("found a pair among single texts" in each["error"] for each in answers[2:-1])
    pairs: list[Any] = [{"text": "word1", "text_pair": "word2"}, *TEXTS]
    answers = list(pipe(iter(pairs), batch_size=batch_size, errors="return"))
    assert alike(answers[0], pipe(pairs[0]))
    assert all("found a single text among pairs" in each["error"] for each in answers[1:])


def test_a_stream_raises_at_its_first_refused_item(
    pipe: AdaptivePipeline, alone: list[Any]
) -> None:
    given = [*TEXTS[:10], None, TEXTS[10], 3, TEXTS[11]]
    found = []
    with pytest.raises(InputError) as caught:
        for each in pipe(iter(given), batch_size=1):  # in pieces of 8
            found.append(each)
    assert alike(found, alone[:10])
    assert list(caught.value.faults) == [10, 12]
    assert alike(caught.value.answers, [None, alone[10], None, alone[11]])
    returned = list(pipe(iter(given), batch_size=1, errors="return"))
    assert alike([each for each in returned if "error" not in each], alone)
    assert [i for i, each in enumerate(returned) if "error" in each] == [10, 12]


def test_texts_are_never_told_in_errors(pipe: AdaptivePipeline) -> None:
    secret = "hunter2"
    given = [f"{secret}\ud800", {secret: secret}, (secret, 1), secret.encode(), " ".join(WORDS)]
    with pytest.raises(InputError) as caught:
        pipe([*TEXTS, *given], truncation="error")
    assert len(caught.value.faults) == 5
    assert secret not in str(caught.value) and "word" not in str(caught.value)
