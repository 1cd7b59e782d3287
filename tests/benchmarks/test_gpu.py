"""The ways that are compared on a GPU, on the CPU with tiny shapes: they answer, and are told."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import make_cascade

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from gpu import models, results, speed, subjects
from peer_models import Plain

from adaptive.bundle.contents import Bundle
from adaptive.policy.lookup import tier_alone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lines() -> dict[str, dict[str, Any]]:
    subject = subjects.shaped("bert_base", torch.float32, CPU, 24, True)
    patterns = tuple(subject.policies)
    found = speed.measure(subject, 12, 1e9, baselines=("eager",), policies=patterns, seconds=0.0)
    return {line["way"]: line for line in found}


@pytest.fixture
def bundle() -> Bundle:
    return make_cascade(6)


def short_rows(count: int) -> list[models.Row]:
    return [row[:30] for row in subjects.random_rows(count, 40, 0)]


def test_every_way_has_a_line(lines: dict[str, dict[str, Any]]) -> None:
    policies = ("half, then 30 %", "all at a third")
    assert list(lines) == [results.FULL, results.SINGLY, *policies, "eager"]
    for name, line in lines.items():
        assert line["texts_per_second"] > 0 and line["p50_milliseconds"] > 0
        assert line["utilisation"] > 0 and line["rounds"] == 3
        if name in (*speed.WHOLE, "eager"):
            assert line["agreement"] == 1.0
    assert set(lines[results.FULL]["over"]) == {"eager"}
    assert set(lines["all at a third"]["over"]) == {"eager", *speed.WHOLE}
    assert lines[results.FULL]["over_fastest"]["way"] == "eager"


def test_work_saved_is_that_of_the_pattern(lines: dict[str, dict[str, Any]]) -> None:
    assert 0.6 < lines["all at a third"]["work_saved"] < 0.68
    assert 0.35 < lines["half, then 30 %"]["work_saved"] < 0.55
    assert "work_saved" not in lines[results.FULL]


@pytest.mark.parametrize("whole", [False, True])
def test_padded_batches_get_the_labels_of_the_tier(bundle: Bundle, whole: bool) -> None:
    rows = short_rows(21)
    labeller = models.Labeller(Plain(copy.deepcopy(bundle.tiers[-1]))).eval()
    found = models.padded(labeller, CPU, whole=whole)(rows, 8)
    wanted = models.ours(bundle, tier_alone(bundle.stages, 2))(rows, 8)
    np.testing.assert_array_equal(found, wanted)
    assert len(set(found.tolist())) > 1


def test_graphs_see_few_shapes() -> None:
    """What is captured on a GPU is called here, shapes noted."""
    shapes = set()

    def noted(rows: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(rows.shape))
        assert (rows >= 0).any(1).all()  # a row that is filled up has a token
        return rows[:, 0].long()

    rows = short_rows(21)
    found = models.padded(noted, CPU, whole=True)(rows, 8)
    np.testing.assert_array_equal(found, [row[0] for row in rows])
    assert {height for height, _ in shapes} == {8}
    assert {width for _, width in shapes} <= {8, 16, 24, 32}
    models.padded(noted, CPU, whole=True)(rows[:3], 8)
    assert {height for height, _ in shapes} == {4, 8}


def test_padded_batches_keep_within_a_budget_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TOKENS", 100)
    sizes = []

    def noted(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(rows.numel())
        return rows[:, 0].long()

    rows = short_rows(12)
    found = models.padded(noted, CPU)(rows, 12)
    np.testing.assert_array_equal(found, [row[0] for row in rows])
    assert len(sizes) > 1 and max(sizes) <= 100


@pytest.mark.parametrize(
    "length, width", [(1, 8), (8, 8), (9, 16), (33, 40), (65, 80), (129, 160), (256, 256)]
)
def test_widths_are_few_and_at_most_a_quarter_too_wide(length: int, width: int) -> None:
    assert models.width_of(length) == width
    assert len({models.width_of(each) for each in range(1, 257)}) == 16


def test_a_way_that_cannot_run_is_told_and_the_others_go_on(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    subject = subjects.subject_of("tiny", bundle, [], {})
    monkeypatch.setattr(models.Shop, "make", lambda self, name: fails(name))
    own = {"a": lambda rows, batch: np.zeros(1)}
    ways, left_out = speed.usable(own, subject, ("eager",), [], 1)
    assert list(ways) == ["a"]
    assert left_out == {"eager": "OutOfMemoryError: CUDA out of memory"}


def test_a_baseline_that_answers_otherwise_is_not_the_fastest() -> None:
    over = {
        "eager": {"texts_per_second_ratio": 2.0, "p50_ratio": 0.5},
        "graphs": {"texts_per_second_ratio": 1.1, "p50_ratio": 0.9},
    }
    line = {"way": results.FULL, "agreement": 1.0, "shape": subjects.CLINC, "over": over}
    others = [{"way": "eager", "agreement": 1.0}, {"way": "graphs", "agreement": 0.5}]
    found = speed.over_fastest(line, [line, *others])
    assert found is not None and (found["way"], found["value"]) == ("eager", 2.0)
    trained_not = {**line, "shape": "bert_base"}
    found = speed.over_fastest(trained_not, [trained_not, *others])
    assert found is not None and (found["way"], found["value"]) == ("graphs", 1.1)
