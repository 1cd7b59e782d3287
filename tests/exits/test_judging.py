"""The graph of a reliability says what torch says, for any numbers of texts, classes and stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_exits import an_exit, fitted

from adaptive.exits import judging
from adaptive.exits.judging import judge, judge_in_graph

pytest.importorskip("onnxruntime")


@settings(deadline=None)
@given(
    b=st.integers(1, 40),
    c=st.integers(2, 30),
    h=st.integers(1, 20),
    first=st.booleans(),
    size=st.sampled_from([0.01, 3.0, 100.0]),
    stages=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@torch.inference_mode()
def test_the_graph_says_what_torch_says(
    b: int, c: int, h: int, first: bool, size: float, stages: int, seed: int
) -> None:
    reliability = fitted(stages, seed)
    seen = an_exit(b, c, h, first=first, size=size, seed=seed)
    for stage in {0, stages - 1}:
        expected = judge(reliability, stage, *seen)
        found = judge_in_graph(reliability, stage, *seen)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


@torch.inference_mode()
def test_the_first_stage_is_its_own_anchor() -> None:
    seen = an_exit(5, 3, 4, first=True, size=1.0, seed=0)
    reliability = fitted(2)
    reliability.weight[0] = reliability.weight[1]
    for run in (judge, judge_in_graph):
        own = run(reliability, 0, *seen)[3]
        other = an_exit(5, 3, 4, first=True, size=1.0, seed=1)[5]
        assert torch.equal(run(reliability, 0, *seen[:5], other, seen[6])[3], own)
        later = run(reliability, 1, *seen)[3]
        assert not torch.equal(run(reliability, 1, *seen[:5], other, seen[6])[3], later)


@torch.inference_mode()
def test_what_is_fitted_anew_counts_at_once() -> None:
    reliability, seen = fitted(1), an_exit(5, 3, 4, first=False, size=1.0, seed=0)
    judge_in_graph(reliability, 0, *seen)
    reliability.set_temperature(0, 3.0)
    reliability.set_fit(0, ([0.0] * 12, [1.0] * 12, [0.5] * 12, 0.1))
    found = judge_in_graph(reliability, 0, *seen)
    torch.testing.assert_close(found[3], judge(reliability, 0, *seen)[3])


@torch.inference_mode()
def test_the_code_writes_a_graph_like_that_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    from adaptive.training.judging import write_graph

    reliability, seen = fitted(3), an_exit(7, 5, 4, first=False, size=2.0, seed=0)
    expected = judge_in_graph(reliability, 2, *seen)
    write_graph(tmp_path / "judge.onnx")
    monkeypatch.setattr(judging, "GRAPH", tmp_path / "judge.onnx")
    monkeypatch.setattr(judging, "_session", judging._session.__wrapped__)
    found = judge_in_graph(reliability, 2, *seen)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_graph_does_not_tell_where_it_was_written() -> None:
    written = judging.GRAPH.read_bytes()
    assert b".py" not in written and b"forward" not in written
