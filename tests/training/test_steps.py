"""Steps run when they must, are skipped when they may be, and go on where they stopped."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tiny_builds import context_of, recipe_in
from torch import nn

from adaptive.errors import BuildError
from adaptive.training.learn.loop import Options, fit
from adaptive.training.steps import Context, Step, forget, run, section


class Bench:
    """Two steps, the second of which reads the first, and what was done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.did: list[str] = []
        self.first = Step("first", (), section("tiny"), self.work("first"))
        self.second = Step("second", ("first",), section("mid"), self.work("second"))

    def work(self, name: str) -> Any:
        def work(context: Context, folder: Path) -> dict[str, Any]:
            self.did.append(name)
            (folder / "result").write_text(str(len(self.did)))
            return {"answer": 42}

        return work

    def build(self, **changes: Any) -> list[str]:
        """Runs both; returns those that did their work."""
        context, before = self.context(**changes), len(self.did)
        for step in (self.first, self.second):
            run(step, context)
        return self.did[before:]

    def context(self, **changes: Any) -> Context:
        return context_of(recipe_in(self.folder, changes), self.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_step_is_skipped_when_nothing_it_reads_has_changed(bench: Bench) -> None:
    assert bench.build() == ["first", "second"]
    assert bench.build() == []
    assert bench.build(exits={"epochs": 9}) == []


def test_a_step_runs_again_when_its_section_changes(bench: Bench) -> None:
    bench.build()
    assert bench.build(mid={"layers": 1}) == ["second"]
    assert bench.build(mid={"layers": 1}) == []


def test_a_step_runs_again_when_an_earlier_one_has_changed(bench: Bench) -> None:
    bench.build()
    assert bench.build(tiny={"width": 8}) == ["first", "second"]


def test_the_seed_concerns_every_step(bench: Bench) -> None:
    bench.build()
    assert bench.build(seed=1) == ["first", "second"]


def test_force_does_a_finished_step_again(bench: Bench) -> None:
    bench.build()
    assert run(bench.second, bench.context(), force=True)
    assert (bench.folder / "second" / "result").read_text() == "3"


def test_a_forgotten_step_is_undone(bench: Bench) -> None:
    bench.build()
    forget(bench.first, bench.context())
    with pytest.raises(BuildError, match="needs step 'first', which has not run yet"):
        run(bench.second, bench.context())
    assert bench.build() == ["first"]


def test_a_missing_earlier_step_is_named(bench: Bench) -> None:
    with pytest.raises(BuildError, match="step 'second' needs step 'first'"):
        run(bench.second, bench.context())
    assert not (bench.folder / "second.partial").exists()


def test_figures_are_kept(bench: Bench) -> None:
    bench.build()
    assert bench.context().figures("second") == {"answer": 42}
    assert sorted(p.name for p in (bench.folder / "first").iterdir()) == ["result", "step.json"]


def test_an_interrupted_step_finds_what_it_left_unless_its_inputs_changed(tmp_path: Path) -> None:
    found: list[list[str]] = []

    def work(context: Context, folder: Path) -> dict[str, Any]:
        found.append(sorted(p.name for p in folder.iterdir() if p.name != "inputs.json"))
        (folder / "half").write_text("done")
        if len(found) < 3:
            raise KeyboardInterrupt
        return {}

    step = Step("slow", (), section("tiny"), work)
    plain = context_of(recipe_in(tmp_path), tmp_path)
    changed = context_of(recipe_in(tmp_path, {"tiny": {"width": 8}}), tmp_path)
    for context in (plain, plain):
        with pytest.raises(KeyboardInterrupt):
            run(step, context)
        assert not (tmp_path / "slow").exists()
    assert run(step, changed)
    assert found == [[], ["half"], []]
    assert not (tmp_path / "slow.partial").exists()


def test_an_interrupted_step_leaves_the_finished_one_as_it_was(bench: Bench) -> None:
    bench.build()

    def broken(context: Context, folder: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    step = Step("first", (), section("tiny"), broken)
    with pytest.raises(KeyboardInterrupt):
        run(step, bench.context(tiny={"width": 8}))
    assert (bench.folder / "first" / "result").read_text() == "1"
    assert bench.build() == []


def test_figures_that_are_not_json_fail_and_leave_the_step_undone(tmp_path: Path) -> None:
    step = Step("odd", (), section(), lambda context, folder: {"value": np.float32(1)})
    context = context_of(recipe_in(tmp_path), tmp_path)
    with pytest.raises(TypeError):
        run(step, context)
    assert not (tmp_path / "odd").exists()


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("12 requested and 0 written"),  # numpy's, without a number
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["system", "numpy", "safetensors"],
)
def test_a_full_disk_is_told_and_what_is_done_is_kept(bench: Bench, fault: Exception) -> None:
    def work(context: Context, folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("done")
        raise fault

    bench.build()
    full = Step("third", ("second",), section(), work)
    with pytest.raises(BuildError, match=r"step 'third': files in .* MiB are free there") as raised:
        run(full, bench.context())
    assert str(getattr(fault, "strerror", None) or fault) in str(raised.value)
    assert (bench.folder / "third.partial" / "half").is_file()
    assert bench.build() == []


def test_a_note_that_was_half_written_does_not_stop_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(self: Path, text: str, **how: Any) -> int:
        write(self, text[: len(text) // 2], **how)
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(BuildError, match="no space"):
            run(bench.first, bench.context())
    assert bench.build() == ["first", "second"]


def drawing_step(name: str) -> Step:
    def work(context: Context, folder: Path) -> dict[str, Any]:
        return {"drawn": torch.rand(3).tolist(), "other": nn.Linear(2, 1).weight.tolist()}

    return Step(name, (), section(), work)


def test_what_a_step_draws_does_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    drawn = []
    for number in range(2):
        torch.rand(number)
        context = context_of(recipe_in(tmp_path), tmp_path / str(number))
        context.workdir.mkdir()
        run(drawing_step("draw"), context)
        drawn.append(context.figures("draw"))
    assert drawn[0] == drawn[1]


LENGTHS = np.tile(np.array([3, 9, 5]), 20)
DATA = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
AIM = (DATA[:, 0] > 0).long()


def train(
    folder: Path, stop_at: int | None = None, calls: list[int] | None = None
) -> dict[str, torch.Tensor]:
    """Trains a small net with dropout; `stop_at` interrupts at that call of the loss.

    `calls` takes the first row of every batch.
    """
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    calls = [] if calls is None else calls

    def loss(rows: Any) -> torch.Tensor:
        calls.append(int(rows[0]))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        noisy = DATA[rows] + 0.1 * torch.randn(len(rows), 4)
        return nn.functional.cross_entropy(model(noisy), AIM[rows])

    options = Options("net", 4, 8, 1e-2, weight_decay=0.1, seed=3)
    fit(model, loss, LENGTHS, options, folder)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("stop_at", [4, 8, 13, 32])
def test_training_interrupted_anywhere_ends_with_the_very_weights(
    tmp_path: Path, stop_at: int
) -> None:
    """Eight batches an epoch: within the first, at the start of the second, in it, at the end."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop_at)
    assert (tmp_path / "broken" / "net.checkpoint.safetensors").is_file() == (stop_at > 8)
    resumed = train(tmp_path / "broken")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_training_goes_on_at_its_last_epoch_and_does_not_start_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=20)
    calls: list[int] = []
    train(tmp_path, calls=calls)
    assert len(calls) == 16  # two epochs were left
    assert not (tmp_path / "net.checkpoint.safetensors").exists()


def test_each_epoch_takes_the_rows_in_another_order(tmp_path: Path) -> None:
    calls: list[int] = []
    train(tmp_path, calls=calls)
    epochs = [calls[start : start + 8] for start in range(0, 32, 8)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
