"""Tokenising ahead: the same answers in the same order, errors in their place, no thread left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tiny_cascade import WORDS, tiny_texts

from adaptive import pipeline as module
from adaptive.bundle.contents import Bundle
from adaptive.engine import ahead
from adaptive.errors import InputError
from adaptive.pipeline import AdaptivePipeline
from adaptive.text import tokens as token_rows

TEXTS = tiny_texts(30)
LONG = " ".join(WORDS)  # 40 words, 30 fit


@pytest.fixture(params=[True, False], ids=["thread", "no thread"])
def pipe(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tiny_cascade: Bundle
) -> Iterator[AdaptivePipeline]:
    """In pieces of eight texts (streams: at a batch of one), on a machine with or without cores."""
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "has_spare_core", lambda device: request.param)
    before = threading.active_count()
    yield AdaptivePipeline(tiny_cascade)
    assert threading.active_count() == before


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch, tiny_cascade: Bundle) -> list[str]:
    """Which threads tokenised, on a machine with cores to spare."""
    found: list[str] = []
    original = token_rows.tokenize

    def noted(*given: Any, **options: Any) -> Any:
        found.append(threading.current_thread().name)
        return original(*given, **options)

    monkeypatch.setattr(token_rows, "tokenize", noted)
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "has_spare_core", lambda device: True)
    return found


def labels(answers: list[Any]) -> list[Any]:
    return [(each["label"], each["routing"]["tier"], each["routing"]["exit"]) for each in answers]


def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second piece's computation is interrupted as by Ctrl-C."""
    original, calls = module.answer, []

    def run(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given, **options)

    monkeypatch.setattr(module, "answer", run)


def test_pieces_are_answered_in_order(pipe: AdaptivePipeline) -> None:
    whole = [labels(pipe(text))[0] for text in TEXTS]
    assert labels(pipe(TEXTS)) == whole
    assert labels(list(pipe(iter(TEXTS), batch_size=1))) == whole


def test_refused_texts_keep_their_index_in_every_piece(pipe: AdaptivePipeline) -> None:
    given = [*TEXTS[:9], LONG, *TEXTS[9:20], None, LONG]
    with pytest.raises(InputError) as caught:
        pipe(given, truncation="error")
    assert list(caught.value.faults) == [9, 21, 22]
    found = list(pipe(iter(given), batch_size=1, truncation="error", errors="return"))
    assert [i for i, each in enumerate(found) if "error" in each] == [9, 21, 22]


@pytest.mark.parametrize("good", [0, 7, 8, 9, 16, 20])
def test_a_generator_that_fails_does_so_behind_the_answers_of_what_it_gave(
    pipe: AdaptivePipeline, good: int
) -> None:
    def failing() -> Iterator[str]:
        yield from TEXTS[:good]
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for each in pipe(failing(), batch_size=1):
            found.append(each)
    assert labels(found) == [labels(pipe(text))[0] for text in TEXTS[:good]]


def test_a_tokenizer_that_fails_does_so_behind_the_answers_of_earlier_pieces(
    pipe: AdaptivePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = token_rows.tokenize

    def failing(tokenizer: Any, texts: list[str], *given: Any, **options: Any) -> Any:
        if TEXTS[17] in texts:
            raise ValueError("no such token")
        return original(tokenizer, texts, *given, **options)

    monkeypatch.setattr(token_rows, "tokenize", failing)
    found = []
    with pytest.raises(ValueError, match="no such token"):
        for each in pipe(iter(TEXTS), batch_size=1):
            found.append(each)
    assert len(found) == 16
    with pytest.raises(ValueError, match="no such token"):
        pipe(TEXTS)


@pytest.mark.parametrize("leave", ["close", "drop", "end"])
def test_a_stream_that_is_left_leaves_no_thread(pipe: AdaptivePipeline, leave: str) -> None:
    answers = pipe(iter(TEXTS), batch_size=1)
    next(answers)
    if leave == "close":
        answers.close()
    elif leave == "end":
        assert len(list(answers)) == len(TEXTS) - 1
    del answers  # the fixture counts


@pytest.mark.parametrize("kind", [list, iter])
def test_an_interrupted_call_leaves_no_thread(
    pipe: AdaptivePipeline, kind: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt) as caught:
        list(pipe(kind(TEXTS), batch_size=1))
    assert threading.active_count() == before and caught.tb  # though the traceback is held


def test_a_generator_is_read_in_the_callers_thread_and_two_pieces_ahead(
    threads: list[str], tiny_cascade: Bundle
) -> None:
    read: list[int] = []

    def given() -> Iterator[str]:
        for index, text in enumerate(TEXTS):
            assert threading.current_thread() is threading.main_thread()
            read.append(index)
            yield text

    answers = AdaptivePipeline(tiny_cascade)(given(), batch_size=1)
    assert read == []
    for taken in range(1, len(TEXTS) + 1):
        next(answers)
        assert len(read) <= 16 + 8 * ((taken - 1) // 8)
    assert threads and all(name.startswith("one-ahead") for name in threads)


def test_what_fits_one_piece_is_tokenised_without_a_thread(
    threads: list[str], tiny_cascade: Bundle
) -> None:
    pipe = AdaptivePipeline(tiny_cascade)
    for given in (TEXTS[0], TEXTS[:8], {"text": TEXTS[0]}):
        pipe(given)
    assert threads == ["MainThread"] * 3
    pipe(TEXTS[:9])
    assert all(name.startswith("one-ahead") for name in threads[3:])


def test_a_thread_is_for_cores_that_torch_leaves_or_another_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert not ahead.has_spare_core(torch.device("cpu"))
    assert ahead.has_spare_core(torch.device("cuda"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert ahead.has_spare_core(torch.device("cpu"))
