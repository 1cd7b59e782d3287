"""A build is never silent for long: a step tells that it begins, how far it is, what it took."""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_builds import recipe_in, write_data, write_model
from torch import nn

from adaptive.training import progress
from adaptive.training.build import build
from adaptive.training.journal import Journal
from adaptive.training.learn.loop import Options, fit
from adaptive.training.progress import how_far, lasting, telling


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "log")


def train(journal: Journal, folder: Path, pause: float = 0.0) -> None:
    model = nn.Linear(2, 1)

    def loss(rows: np.ndarray) -> torch.Tensor:
        time.sleep(pause)
        return model(torch.ones(len(rows), 2)).sum() * 0 + 0.25

    fit(model, loss, np.ones(40, np.int64), Options("net", 2, 4, 0.1), folder, journal, True)


def test_a_training_tells_steps_loss_and_the_time_that_is_left(
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with caplog.at_level(logging.INFO), telling(journal, "step 2 of 9, net", lines=True):
        train(journal, tmp_path, pause=0.02)
    first, *middle, last = caplog.messages
    assert first == "step 2 of 9, net: started"
    line = r"step 2 of 9, net: \d+ of 20 optimiser steps \(\d+%\), loss 0\.250, about .* s left"
    assert sum(bool(re.fullmatch(line, each)) for each in middle) >= 3
    assert re.fullmatch(r"step 2 of 9, net: done in \d\.\d s", last)
    assert not any(each.name == "progress" for each in threading.enumerate())


def test_work_that_does_not_tell_how_far_it_is_tells_that_it_runs(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    journal.at(7, 8, "optimiser steps")  # of the step before
    with caplog.at_level(logging.INFO), telling(journal, "policy", lines=True):
        time.sleep(0.1)
    assert any(re.fullmatch(r"policy: running for 0\.\d s", each) for each in caplog.messages)


def test_where_bars_are_shown_no_lines_are(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with caplog.at_level(logging.INFO), telling(journal, "net", lines=False):
        time.sleep(0.1)
    assert [each.partition(" in")[0] for each in caplog.messages] == ["net: started", "net: done"]


def test_a_step_that_fails_is_not_said_to_be_done(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(KeyboardInterrupt),
        telling(journal, "net", lines=True),
    ):
        raise KeyboardInterrupt
    assert caplog.messages == ["net: started"]


def test_the_time_left_follows_from_what_this_run_did(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    journal.at(50, 100, "rows")  # where an interrupted run had come
    assert how_far(journal, 5) == "50 of 100 rows (50%)"
    now[0] = 110.0
    journal.at(60, 100, "rows", 1.5)
    assert how_far(journal, 15) == "60 of 100 rows (60%), loss 1.500, about 40 s left"
    journal.at(61, 100, "rows")  # the loss is told now and then
    assert "loss 1.500" in how_far(journal, 16)


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
