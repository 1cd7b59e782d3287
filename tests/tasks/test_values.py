"""What each task calls a loss, the same answer, and a sign of doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptive.exits.measures import History
from adaptive.exits.reliability import Reliability
from adaptive.tasks import SINGLE_LABEL, TASKS, Task, task_from_json
from adaptive.tasks.multi_label import MultiLabel
from adaptive.tasks.regression import Regression
from adaptive.training.learn.distill import distillation

MULTI, NUMBER = MultiLabel(thresholds=(0.5, 0.2, 0.9)), Regression((0.0, 4.0), 0.5)
MEMBERS = [SINGLE_LABEL, MULTI, NUMBER]
rng = np.random.default_rng(0)


def outputs(task: Task) -> int:
    return 1 if task is NUMBER else 3


def sets(*rows: str) -> np.ndarray:
    return np.array([[int(each) for each in row] for row in rows], np.int8)


def test_losses_of_sets_by_hand() -> None:
    said, true = sets("110", "000", "000", "111"), sets("100", "000", "010", "111")
    np.testing.assert_allclose(MULTI.losses(said, true), [1 / 3, 0, 1, 0])
    np.testing.assert_allclose(MultiLabel("subset").losses(said, true), [1, 0, 1, 0])
    assert MULTI.same(said, true).tolist() == [False, True, False, True]


def test_losses_of_numbers_by_hand_are_bounded_by_the_scale() -> None:
    said = np.array([1.0, 4.0, -3.0, 9.0, 9.0], np.float32)
    true = np.array([2.0, 4.0, 0.0, 4.0, 0.0], np.float32)
    np.testing.assert_allclose(NUMBER.losses(said, true), [0.25, 0, 0, 0, 1])
    assert NUMBER.same(said, said + 0.5).all() and not NUMBER.same(said, said - 0.51).any()


def test_a_class_is_chosen_from_its_own_threshold_on() -> None:
    scores = torch.tensor([[0.5, 0.2, 0.9], [0.49, 0.19, 0.89]])
    assert MULTI.answers(scores).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert MultiLabel(threshold=0.3).answers(scores).tolist() == [[1, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize("loss", ["f1", "subset"])
def test_fitted_thresholds_lose_less_on_new_rows(loss: str) -> None:
    """The scores of one class are too low and of another too high by far."""

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.random((count, 3)) < [0.5, 0.5, 0.3]
        logits = 3.0 * (2 * true - 1) + rng.normal(0, 1.5, true.shape) + [-4.0, 0.0, 4.0]
        return logits.astype(np.float32), true.astype(np.int8)

    task, (logits, labels) = MultiLabel(loss), rows(400)  # type: ignore[arg-type]
    found = task.fitted(logits, labels)
    low, middle, high = found.to_json()["thresholds"]
    assert low < 0.4 and 0.2 < middle < 0.8 and high > 0.6
    new, truth = rows(2_000)
    scores = torch.from_numpy(new / task.temperature(logits, labels, logits)).sigmoid()
    lost = [float(each.losses(each.answers(scores), truth).mean()) for each in (task, found)]
    assert lost[1] < 0.6 * lost[0]
    assert MultiLabel(threshold=0.4).fitted(logits, labels).to_json()["thresholds"] == [0.4] * 3


@pytest.mark.parametrize("task", MEMBERS, ids=lambda each: each.name)
def test_measures_are_finite_named_and_carry_a_history(task: Task) -> None:
    width = outputs(task)
    logits = torch.randn(6, width, generator=torch.Generator().manual_seed(0)) * 8
    logits[0] = 80.0 if width == 1 else torch.tensor([80.0, -80.0, 0.0])
    pooled, history = torch.randn(6, 5), History.start(6, "cpu")
    anchor = task.scores(torch.randn(6, width))
    rows = []
    for given in (logits, logits, -logits):
        features, later = task.measure(given, pooled, history, anchor, torch.zeros(6))
        plain = task.remember(given, lambda values: values, history, pooled)
        torch.testing.assert_close(later.streak, plain.streak)
        torch.testing.assert_close(later.prediction, plain.prediction)
        history, rows = later, [*rows, features]
        assert features.shape == (6, len(task.features)) and features.isfinite().all()
    streak = task.features.index("streak")
    assert (rows[0][:, streak] == 0).all() and (rows[1][:, streak] == 1).all()
    assert (rows[2][1:, streak] == 0).any()
    assert Reliability(2, task.features)(1, rows[0]).tolist() == [0.5] * 6
    shares = task.distribution(task.scores(logits))
    assert shares.shape[1] >= 2
    torch.testing.assert_close(shares.sum(1), torch.ones(6))


@pytest.mark.parametrize("task", MEMBERS, ids=lambda each: each.name)
def test_students_learn_from_labels_and_from_a_teacher(task: Task) -> None:
    width = outputs(task)
    teacher = torch.randn(8, width, generator=torch.Generator().manual_seed(1)) * 3
    labels = torch.from_numpy(task.answers(task.scores(teacher)))
    unknown = torch.from_numpy(task.cells.unknown(8, width))
    own = torch.zeros(8, width, requires_grad=True)
    for known in (labels, unknown):
        loss = distillation(own, known, teacher, 0.5, 2.0, task)
        assert loss.isfinite() and loss > distillation(teacher, known, teacher, 0.5, 2.0, task)
    assert float(distillation(teacher, unknown, teacher, 1.0, 2.0, task)) == pytest.approx(
        0.0, abs=1e-5
    )
    torch.manual_seed(0)
    loss = task.hard_loss(own, task.drawn(own.detach())).mean()
    loss.backward()
    assert own.grad is not None and own.grad.isfinite().all() and own.grad.abs().sum() > 0


@pytest.mark.parametrize("task", MEMBERS, ids=lambda each: each.name)
def test_what_answers_are_worth_is_known_where_labels_are(task: Task) -> None:
    said = [task.answers(task.scores(torch.randn(5, outputs(task)))) for _ in range(3)]
    nothing = task.cells.unknown(5, outputs(task))
    worth, classes = task.worth(said, nothing, None)
    assert not worth.known and worth.own and (worth.alike[:, -1] == 1).all()
    assert (classes is not None) == task.exclusive
    worth, _ = task.worth(said, said[0], said[1])
    assert worth.known and not worth.own
    assert (worth.score[:, 0] == 1).all() and (worth.alike[:, 1] == 1).all()


def test_tasks_go_through_json_and_wrong_ones_are_refused() -> None:
    for task in MEMBERS:
        assert task_from_json(task.name, task.to_json()) == task and task.name in TASKS
    for name, values in [
        ("tokens", {}),
        ("multi_label", {"loss": "hamming"}),
        ("multi_label", {"thresholds": [0.5, 1.0]}),
        ("multi_label", {"separator": ""}),
        ("multi_label", {"depth": 3}),
        ("regression", {"scale": [1.0, 1.0], "tolerance": 0.0}),
        ("regression", {"scale": [0.0, 1.0], "tolerance": 1.0}),
        ("regression", {"scale": [0.0, 1.0]}),
    ]:
        with pytest.raises(ValueError):
            task_from_json(name, values)
