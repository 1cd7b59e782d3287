"""Texts become token rows; those too long are cut as the tokenizer itself would."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adaptive.errors import InputError
from adaptive.text.tokens import tokenize
from adaptive.types import Tokens

WORDS = [f"w{i}" for i in range(20)]


def make_tokenizer(*, special: bool = True, **settings: Any) -> PreTrainedTokenizerFast:
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=8,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **settings,
    )


def rows(tokens: Tokens) -> list[list[int]]:
    return [r.tolist() for r in np.split(tokens.ids, tokens.offsets[1:-1])] if len(tokens) else []


def texts_of(count: int, longest: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(longest))) for _ in range(count)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("max_length", [4, 7, 12])
def test_truncation_gives_the_tokenizers_own_rows(side: str, paired: bool, max_length: int) -> None:
    tokenizer = make_tokenizer(truncation_side=side)
    texts = texts_of(60, 20, seed=1)
    pairs = texts_of(60, 20, seed=2) if paired else None
    found = tokenize(tokenizer, texts, pairs, max_length=max_length)
    whole = tokenize(tokenizer, texts, pairs, max_length=100)
    expected = tokenizer(texts, text_pair=pairs, truncation=True, max_length=max_length)
    assert rows(found) == expected["input_ids"]
    assert found.types is not None
    assert found.types.tolist() == list(chain(*expected["token_type_ids"]))
    assert found.truncated.tolist() == (whole.lengths > max_length).tolist()
    assert not whole.truncated.any()


def test_windows_of_single_texts_are_the_tokenizers_own() -> None:
    tokenizer = make_tokenizer()
    texts = texts_of(60, 30, seed=3)
    found = tokenize(tokenizer, texts, max_length=9, overflow="windows", stride=3)
    expected = tokenizer(
        texts, truncation=True, max_length=9, stride=3, return_overflowing_tokens=True
    )
    assert rows(found) == expected["input_ids"]
    assert found.owner.tolist() == expected["overflow_to_sample_mapping"]
    assert len(found) > len(texts)
    assert not found.truncated.any()


@pytest.mark.parametrize("long_side", ["first", "second"])
def test_windows_of_a_pair_slide_over_the_longer_side_and_repeat_the_other(long_side: str) -> None:
    tokenizer = make_tokenizer()
    long, short = " ".join(WORDS[:11]), "w15 w16"
    first, second = (long, short) if long_side == "first" else (short, long)
    found = tokenize(tokenizer, [first], [second], max_length=9, overflow="windows", stride=1)
    ids = [
        [5 + i for i in window] for window in ([0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [9, 10])
    ]
    repeated = [20, 21]
    assert rows(found) == [
        [2, *window, 3, *repeated, 3] if long_side == "first" else [2, *repeated, 3, *window, 3]
        for window in ids
    ]
    assert found.owner.tolist() == [0, 0, 0, 0]


def test_a_pair_without_room_for_windows_is_refused_by_index() -> None:
    even = " ".join(WORDS[:8])
    with pytest.raises(InputError) as caught:
        tokenize(
            make_tokenizer(),
            ["w1", even],
            ["w2", even],
            max_length=10,
            overflow="windows",
            stride=0,
        )
    assert list(caught.value.faults) == [1]


def test_error_names_every_long_text_with_both_numbers_and_none_of_its_words() -> None:
    texts = ["w1", " ".join(WORDS), "w2 w3", "w4 " * 9]
    with pytest.raises(InputError) as caught:
        tokenize(make_tokenizer(), texts, max_length=8, overflow="error")
    assert caught.value.faults == {
        1: "22 tokens, the limit is 8",
        3: "11 tokens, the limit is 8",
    }


def test_a_limit_below_the_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length is 2, but the tokenizer alone adds 2"):
        tokenize(make_tokenizer(), ["w1"], max_length=2)


@pytest.mark.parametrize(("names", "expected"), [({"eos_token": "</s>"}, 4), ({}, 0)])
def test_a_text_without_tokens_gets_one(names: dict[str, str], expected: int) -> None:
    found = tokenize(make_tokenizer(special=False, **names), ["", "w1", " "], max_length=8)
    assert rows(found) == [[expected], [6], [expected]]
    assert found.types is not None
    assert len(found.types) == 3


def test_no_texts_give_no_rows() -> None:
    found = tokenize(make_tokenizer(), [], max_length=8)
    assert len(found) == 0
    assert found.ids.dtype == np.int32
    assert found.owner.dtype == np.int64


class WatchedTokenizer(PreTrainedTokenizerFast):
    """Keeps the settings that each call finds."""

    found: ClassVar[list[object]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.found += [self.backend_tokenizer.truncation, self.backend_tokenizer.padding]
        return super().__call__(*args, **kwargs)


def test_limits_that_came_with_the_tokenizers_file_do_not_count() -> None:
    backend = make_tokenizer().backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = WatchedTokenizer(tokenizer_object=backend)
    assert rows(tokenize(tokenizer, ["w0 w1 w2 w3"], max_length=50)) == [[2, 5, 6, 7, 8, 3]]
    # Lifted before the call: a setting changed by a call is changed under another thread's.
    assert tokenizer.found == [None, None]


def test_texts_beyond_the_models_length_raise_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(make_tokenizer(), ["w1 " * 50], max_length=8)
    assert not caplog.records


def test_chunks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer()
    texts, pairs = texts_of(50, 20, seed=4), texts_of(50, 5, seed=5)

    def run(items: Sequence[str]) -> Tokens:
        return tokenize(tokenizer, items, pairs, max_length=12, overflow="windows", stride=1)

    whole = run(texts)
    monkeypatch.setattr("adaptive.text.tokens._CHUNK_TEXTS", 7)
    monkeypatch.setattr("adaptive.text.tokens._CHUNK_CHARACTERS", 120)
    pieces = run(texts)
    for field in ("ids", "offsets", "types", "owner", "truncated"):
        assert np.array_equal(getattr(whole, field), getattr(pieces, field))


def test_faults_of_later_chunks_keep_their_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive.text.tokens._CHUNK_TEXTS", 2)
    with pytest.raises(InputError) as caught:
        tokenize(make_tokenizer(), ["w1"] * 4 + ["w1 " * 9], max_length=8, overflow="error")
    assert list(caught.value.faults) == [4]


def test_a_million_characters_pass_through_every_way() -> None:
    tokenizer = make_tokenizer()
    text = "w1 " * 350_000
    assert len(tokenize(tokenizer, [text], max_length=64)) == 1
    # Both sides long: overflows of a pair multiply inside the tokenizer, so it is not asked.
    assert tokenize(tokenizer, [text], [text], max_length=64).lengths.tolist() == [64]
    windows = tokenize(tokenizer, [text], max_length=64, overflow="windows", stride=0)
    assert int(windows.lengths.sum()) == 350_000 + 2 * len(windows)


def test_threads_with_other_limits_do_not_disturb_each_other() -> None:
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(5)
    texts = texts_of(100, 30, seed=6)
    expected = {limit: rows(tokenize(tokenizer, texts, max_length=limit)) for limit in (5, 9, 30)}
    wrong: list[int] = []

    def work(limit: int) -> None:
        for _ in range(10):
            if rows(tokenize(tokenizer, texts, max_length=limit)) != expected[limit]:
                wrong.append(limit)

    threads = [threading.Thread(target=work, args=(limit,)) for limit in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("split", [False, True])
def test_special_tokens_spelled_out_in_a_text_are_read_as_the_tokenizer_says(split: bool) -> None:
    tokenizer = make_tokenizer(sep_token="[SEP]", split_special_tokens=split)
    text = "w1 [SEP] w2"
    for _ in range(2):  # whatever was asked of it before
        found = rows(tokenize(tokenizer, [text], max_length=20))
        assert found == [tokenizer(text)["input_ids"]]
        tokenizer(text, split_special_tokens=not split)
    assert (3 in found[0][1:-1]) is not split


def test_a_tokenizer_with_a_call_of_its_own_is_asked_by_it() -> None:
    class Louder(PreTrainedTokenizerFast):
        def __call__(self, text: Any, **options: Any) -> Any:
            return super().__call__([f"w7 {each}" for each in text], **options)

    plain = make_tokenizer()
    own = Louder(tokenizer_object=plain.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    assert rows(tokenize(own, ["w1"], max_length=8)) == rows(
        tokenize(plain, ["w7 w1"], max_length=8)
    )
