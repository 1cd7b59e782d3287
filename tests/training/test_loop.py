"""The training loop and the loss of students."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adaptive.events import Event, Finished, Progress, Scalar
from adaptive.training import journal as journals
from adaptive.training.journal import Journal
from adaptive.training.learn.distill import distillation
from adaptive.training.learn.loop import Options, bucketed, fit


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_an_epoch_takes_every_row_once(rows: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, rows)
    batches = list(bucketed(lengths, 8, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(len(batch) <= 8 for batch in batches)
    assert len(batches) == -(-rows // 8)


def test_batches_hold_rows_of_like_length_in_another_order_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 400)
    first, again, other = (
        list(bucketed(lengths, 8, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert np.mean([np.ptp(lengths[batch]) for batch in first]) < 10
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    order = [lengths[batch].mean() for batch in first]
    assert order != sorted(order) and order != sorted(order, reverse=True)


def rates(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[float]:
    """The learning rate of every optimiser step of two epochs of five batches."""
    found: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        found.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    model = nn.Linear(2, 1)
    fit(
        model,
        lambda rows: model(torch.ones(len(rows), 2)).sum(),
        np.ones(20, np.int64),
        Options("net", 2, 4, 0.1, **options),
        folder,
    )
    return found


def test_the_learning_rate_climbs_and_falls_in_straight_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rates(tmp_path, monkeypatch, warmup=0.4)
    climb = [0.25, 0.5, 0.75] + [1.0] * 7
    np.testing.assert_allclose(found, [0.1 * c * (1 - i / 10) for i, c in enumerate(climb)])


def test_without_warmup_the_first_step_is_already_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rates(tmp_path, monkeypatch, warmup=0.0)[0] == pytest.approx(0.1)


def test_matrices_decay_and_biases_do_not(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(1.0)
    still = model.weight.sum() * 0 + model.bias.sum() * 0
    fit(
        model,
        lambda rows: (model.weight.sum() + model.bias.sum()) * 0,
        np.ones(8, np.int64),
        Options("net", 1, 4, 0.1, weight_decay=0.5),
        tmp_path,
    )
    assert still == 0
    assert (model.weight < 0.99).all()
    assert model.bias.item() == 1.0


def test_a_finished_training_leaves_no_checkpoint_and_a_model_at_rest(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    told: list[Event] = []
    seen: list[bool] = []

    def loss(rows: Any) -> torch.Tensor:
        seen.append(model.training)
        return model(torch.ones(len(rows), 2)).sum()

    fit(
        model,
        loss,
        np.ones(8, np.int64),
        Options("net", 2, 4, 0.1),
        tmp_path,
        told.append,
    )
    assert seen == [True] * 4
    assert not model.training
    assert list(tmp_path.iterdir()) == []
    assert [(e.name, e.at) for e in told if isinstance(e, Scalar)] == [("loss/net", 0)]
    assert [e.done for e in told if isinstance(e, Progress)] == [0, 1, 2, 3, 4]


def test_parameters_that_do_not_learn_are_left_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    fit(
        model,
        lambda rows: model(torch.ones(len(rows), 2)).sum(),
        np.ones(8, np.int64),
        Options("net", 1, 4, 0.1, weight_decay=0.5),
        tmp_path,
    )
    assert torch.equal(model[0].weight, before)


STUDENT = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
TEACHER = torch.tensor([[0.0, 1.0], [0.0, 2.0]])


def soft(row: int, temperature: float) -> float:
    """T^2 x sum of p_teacher x (log p_teacher - log p_student), both softened."""
    teacher = (TEACHER[row] / temperature).softmax(0)
    student = (STUDENT[row] / temperature).softmax(0)
    return float((teacher * (teacher.log() - student.log())).sum()) * temperature**2


def hard(row: int, label: int) -> float:
    return -float(STUDENT[row].softmax(0)[label].log())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_by_hand(weight: float, temperature: float) -> None:
    found = distillation(STUDENT, torch.tensor([0, 1]), TEACHER, weight, temperature)
    rows = [weight * soft(r, temperature) + (1 - weight) * hard(r, r) for r in range(2)]
    assert float(found) == pytest.approx(sum(rows) / 2, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_rows_without_a_label_learn_from_the_teacher_alone(weight: float) -> None:
    found = distillation(STUDENT, torch.tensor([-1, 1]), TEACHER, weight, 2.0)
    second = weight * soft(1, 2.0) + (1 - weight) * hard(1, 1)
    assert float(found) == pytest.approx((soft(0, 2.0) + second) / 2, abs=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    none = torch.tensor([-1, -1])
    assert float(distillation(TEACHER, none, TEACHER, 1.0, 3.0)) == pytest.approx(0.0, abs=1e-6)
    half = distillation(TEACHER.bfloat16(), none, TEACHER.half(), 1.0, 3.0)
    assert half.dtype == torch.float32


def test_losses_and_figures_reach_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("torch.utils.tensorboard")
    journal = Journal(tmp_path / "log")
    journal(Scalar("loss/net", 0.5, 20))
    figures = {"fit_accuracy": 0.75, "rows": 3, "kind": "bag", "skipped": True}
    journal(Finished("full", 2, 12, 1.0, figures))
    journal.close()
    read = events.EventAccumulator(str(tmp_path / "log")).Reload()
    assert sorted(read.Tags()["scalars"]) == ["full/fit_accuracy", "full/rows", "loss/net"]
    assert [(e.step, e.value) for e in read.Scalars("loss/net")] == [(20, 0.5)]


class FakeWandb(ModuleType):
    """What of wandb is called; keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.points: list[dict[str, float]] = []
        self.finished = 0

    def Settings(self, **given: Any) -> dict[str, Any]:
        return given

    def init(self, **given: Any) -> FakeWandb:
        self.started.append(given)
        return self

    def define_metric(self, name: str, **given: Any) -> None:
        assert (name, given) == ("*", {"step_metric": "optimiser step"})

    def log(self, values: dict[str, float]) -> None:
        self.points.append(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("told", [None, "online"])
def test_wandb_is_offline_unless_the_environment_says_otherwise(
    told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")  # put back afterwards
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if told is not None:
        monkeypatch.setenv("WANDB_MODE", told)
    journal = Journal(tmp_path / "log", "tickets", wandb=True)
    assert not fake.started
    journal(Scalar("loss/net", 0.5, 20))
    journal(Finished("full", 2, 12, 1.0, {"rows": 3, "kind": "bag"}))
    journal.close()
    (started,) = fake.started
    assert started["mode"] == (told or "offline") and started["name"] == "tickets"
    assert started["dir"] == str(tmp_path / "log")
    assert started["settings"]["x_disable_meta"] and started["settings"]["disable_git"]
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    assert fake.points == [
        {"loss/net": 0.5, "optimiser step": 20},
        {"full/rows": 3.0, "optimiser step": 0},
    ]
    assert fake.finished == 1


def test_a_build_that_logs_nothing_leaves_no_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log")
    journal.close()
    assert not (tmp_path / "log").exists()


def test_without_tensorboard_the_journal_says_so_and_keeps_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO, logger=journals.__name__):
        journal = Journal(tmp_path / "log")
    assert "tensorboard is not installed" in caplog.text
    journal(Scalar("loss/net", 0.5, 1))
    journal(Finished("full", 2, 12, 1.0, {"rows": 3}))
    journal.close()
    assert not (tmp_path / "log").exists()


class Table(nn.Module):
    """A table of which a batch reads few rows, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bag = nn.EmbeddingBag(30, 4, mode="sum", sparse=True)
        self.head = nn.Linear(4, 2)

    def loss(self, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        ids = torch.from_numpy(rows % 10)[:, None]
        return nn.functional.cross_entropy(self.head(self.bag(ids)), torch.from_numpy(rows % 2))


def train_table(folder: Path, epochs: int, **more: Any) -> Table:
    model, options = Table(), Options("table", 6, 8, 0.1)
    sizes = iter(range(epochs))

    def held_out() -> float:
        if next(sizes, None) is None:
            raise KeyboardInterrupt
        return 0.0

    fit(
        model,
        model.loss,
        np.ones(40, np.int64),
        options,
        folder,
        held_out=held_out,
        sparse=[model.bag.weight],
        **more,
    )
    return model


def test_of_a_sparse_table_only_rows_that_are_read_move(tmp_path: Path) -> None:
    before = Table().bag.weight.detach()
    model = train_table(tmp_path, 6)
    moved = (model.bag.weight != before).any(1)
    assert moved.tolist() == [row < 10 for row in range(30)]
    right = model.head(model.bag(torch.arange(10)[:, None])).argmax(1) == torch.arange(10) % 2
    assert right.all()


def test_a_sparse_training_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = train_table(tmp_path / "whole", 6)
    with pytest.raises(KeyboardInterrupt):
        train_table(tmp_path / "cut", 3)
    again = train_table(tmp_path / "cut", 6)
    assert torch.equal(again.bag.weight, whole.bag.weight)
    assert torch.equal(again.head.weight, whole.head.weight)
