"""A build is never silent for long: a step tells that it begins, how far it is, what it took."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_builds import recipe_in, write_data, write_model
from torch import nn

from adaptive import progress
from adaptive.bundle.contents import Bundle
from adaptive.events import Event, Finished, Progress, Scalar, Skipped, Started, doing
from adaptive.measure import recording
from adaptive.progress import Place, how_far, lasting, listening
from adaptive.text.tokens import tokenize
from adaptive.training.build import build
from adaptive.training.learn.loop import Options, fit


def train(told: Callable[[Event], None], folder: Path, pause: float = 0.0) -> None:
    model = nn.Linear(2, 1)

    def loss(rows: np.ndarray) -> torch.Tensor:
        time.sleep(pause)
        return model(torch.ones(len(rows), 2)).sum() * 0 + 0.25

    fit(model, loss, np.ones(40, np.int64), Options("net", 2, 4, 0.1), folder, told)


def test_a_training_tells_steps_loss_and_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with (
        caplog.at_level(logging.INFO),
        listening(quiet=True) as told,
        doing(told, "net", 2, 9),
    ):
        train(told, tmp_path, pause=0.02)
    first, *middle, last = caplog.messages
    assert first == "step 2 of 9, net: started"
    line = r"step 2 of 9, net: \d+ of 20 optimiser steps \(\d+%\), loss 0\.250, about .* s left"
    assert sum(bool(re.fullmatch(line, each)) for each in middle) >= 3
    assert re.fullmatch(r"step 2 of 9, net: done in \d\.\d s", last)
    assert not any(each.name == "progress" for each in threading.enumerate())


def test_work_that_does_not_tell_how_far_it_is_tells_that_it_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with caplog.at_level(logging.INFO), listening(quiet=True) as told:
        told(Progress("net", 7, 8, "optimiser steps"))  # of the step before
        with doing(told, "policy", 1, 1):
            time.sleep(0.1)
    line = r"step 1 of 1, policy: running for 0\.\d s"
    assert any(re.fullmatch(line, each) for each in caplog.messages)


def test_where_bars_are_shown_no_lines_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with (
        caplog.at_level(logging.INFO),
        listening(quiet=False) as told,
        doing(told, "net", 1, 1),
    ):
        train(told, tmp_path, pause=0.02)
    lines = [each.partition(" in")[0] for each in caplog.messages]
    assert lines == ["step 1 of 1, net: started", "step 1 of 1, net: done"]
    shown = capsys.readouterr().err
    assert "net" in shown
    assert "/20" in shown
    assert "loss=0.250" in shown


def test_a_step_that_fails_is_not_said_to_be_done_and_leaves_no_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(KeyboardInterrupt),
        listening(quiet=True) as told,
        doing(told, "net", 1, 1),
    ):
        raise KeyboardInterrupt
    assert caplog.messages == ["step 1 of 1, net: started"]
    assert not any(each.name == "progress" for each in threading.enumerate())


def test_the_time_left_follows_from_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    place = Place.of(Progress("net", 50, 100, "rows"), None)  # where an interrupted run had come
    assert how_far(place, 5) == "50 of 100 rows (50%)"
    now[0] = 110.0
    place = Place.of(Progress("net", 60, 100, "rows", 1.5), place)
    assert how_far(place, 15) == "60 of 100 rows (60%), loss 1.500, about 40 s left"
    place = Place.of(Progress("net", 61, 100, "rows"), place)  # the loss is told now and then
    assert "loss 1.500" in how_far(place, 16)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (61.2, "1 min 1 s"), (7512, "2 h 5 min")],
)
def test_times_are_told_as_people_say_them(seconds: float, told: str) -> None:
    assert lasting(seconds) == told


def test_every_step_of_a_build_is_numbered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    with caplog.at_level(logging.INFO, logger="adaptive"):
        build(recipe_in(tmp_path), tmp_path / "run", until="data", quiet=True)
        build(recipe_in(tmp_path), tmp_path / "run", until="data", quiet=True)
    told = [each for each in caplog.messages if "step" in each and "first" not in each]
    assert told[0] == "step 1 of 12, data: started"
    assert told[1].startswith("step 1 of 12, data: done in ")
    assert told[2] == "step 1 of 12, data: unchanged, skipped"


def test_a_callback_is_told_all_that_a_build_does_and_can_stop_it(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, Progress) and event.part == "full" and event.done == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        build(recipe_in(tmp_path), tmp_path / "run", quiet=True, on_event=listen)
    started = [(e.step, e.number, e.steps) for e in told if isinstance(e, Started)]
    assert started == [("data", 1, 12), ("full", 2, 12)]
    (data,) = [e for e in told if isinstance(e, Finished)]
    assert data.figures["train"] > 0
    assert any(isinstance(e, Scalar) and e.name == "loss/full" for e in told)
    told.clear()
    build(recipe_in(tmp_path), tmp_path / "run", quiet=True, until="full", on_event=told.append)
    assert [type(e) for e in told if isinstance(e, Skipped | Finished)] == [Skipped, Finished]


def test_recording_counts_the_rows_of_every_tier_over_all_pieces(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ROWS", 4)
    tokens = tokenize(tiny_cascade.tokenizer, ["a fine film"] * 10, None, max_length=16)
    told: list[Event] = []
    recording.outcomes(tiny_cascade, tokens, np.zeros(10, np.int32), 2, told.append)
    progress = [e for e in told if isinstance(e, Progress)]
    assert {e.total for e in progress} == {10 * len(tiny_cascade.tiers)}
    counts = [e.done for e in progress]
    assert counts == sorted(counts)
    assert counts[-1] == progress[-1].total
