"""Calls of few texts share engines, and answer as if each had a new one."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tiny_cascade import tiny_texts

from adaptive import pipeline as module
from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine
from adaptive.pipeline import AdaptivePipeline

TEXTS = tiny_texts(40)


def told(answers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Labels and exits: scores differ in the last digit with a row's company."""
    keys = ("tier", "exit", "covered")
    return [(each["label"], *(each["routing"][key] for key in keys)) for each in answers]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that pipelines make for few rows."""
    found: list[Engine] = []

    def make(*given: Any, **named: Any) -> Engine:
        found.append(Engine(*given, **named))
        return found[-1]

    monkeypatch.setattr(module, "Engine", make)
    return found


def test_one_caller_has_one_engine_and_the_answers_of_many(
    tiny_cascade: Bundle, made: list[Engine]
) -> None:
    expected = told([AdaptivePipeline(tiny_cascade)([text])[0] for text in TEXTS])
    made.clear()
    pipeline = AdaptivePipeline(tiny_cascade)
    assert told([pipeline([text])[0] for text in TEXTS]) == expected
    assert told(pipeline(TEXTS[:7])) == expected[:7]
    assert told(pipeline(TEXTS[3:5])) == expected[3:5]
    assert len(made) == 1 and made[0].idle
    assert told(pipeline(TEXTS[::-1], batch_size=64)) == expected[::-1]
    assert len(made) == 2  # another batch size


def test_threads_never_share_one(tiny_cascade: Bundle, made: list[Engine]) -> None:
    pipeline = AdaptivePipeline(tiny_cascade)
    expected = told(pipeline(TEXTS))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: pipeline([text])[0], TEXTS * 5))
    assert told(found) == expected * 5
    assert 1 <= len(made) <= 40 and all(engine.idle for engine in made)


def test_an_engine_in_which_a_batch_failed_is_not_used_again(
    tiny_cascade: Bundle, made: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = AdaptivePipeline(tiny_cascade)
    expected = pipeline(TEXTS[:3])
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_step", lambda self, more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline(TEXTS[3:9])
    assert pipeline(TEXTS[:3]) == expected
    assert len(made) == 2


def test_a_copy_and_another_policy_have_engines_of_their_own(
    tiny_cascade: Bundle, made: list[Engine]
) -> None:
    pipeline = AdaptivePipeline(tiny_cascade)
    pipeline(TEXTS[:2])
    copies = copy.copy(pipeline), copy.deepcopy(pipeline)
    for each in copies:
        assert each(TEXTS[:2]) == pipeline(TEXTS[:2])
    assert len(made) == 3 and made[2].bundle is copies[1].bundle
    pipeline.policy = AdaptivePipeline(
        tiny_cascade, module.Preset(bundle="x", policy="full")
    ).policy
    assert {each["routing"]["tier"] for each in pipeline(TEXTS[:2])} == {"full"}
