"""The graphs of an exit say what torch says, for any numbers of texts, classes and stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_exits import an_exit, fitted, judged_by_torch, judged_in_graph

from adaptive.exits import judging
from adaptive.exits.heads import ExitHead

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
    for stage in {0, stages - 1}:
        seen = an_exit(b, c, h, first=first or not stage, size=size, seed=seed)
        expected = judged_by_torch(reliability, stage, *seen)
        found = judged_in_graph(reliability, stage, *seen)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("width", [None, 9])
@pytest.mark.parametrize("b", [1, 7])
@pytest.mark.parametrize("stage", [0, 1])
@torch.inference_mode()
def test_a_graph_with_the_head_in_it_says_what_torch_says(
    width: int | None, b: int, stage: int
) -> None:
    torch.manual_seed(0)
    reliability, head = fitted(3), ExitHead(16, 5, width)
    for each in head.parameters():
        each.normal_()
    _, pooled, *others = an_exit(b, 5, 16, first=not stage, size=1.0, seed=0)
    seen = (head(pooled), pooled, *others)
    expected = judged_by_torch(reliability, stage, *seen)
    for one, other in zip(
        judged_in_graph(reliability, stage, *seen, read=head.arrays()), expected, strict=True
    ):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


@torch.inference_mode()
def test_alike_logits_go_to_the_first_class_as_in_torch() -> None:
    """A tie of the greatest logit, and of the anchor's."""
    logits, pooled, *others = an_exit(3, 4, 6, first=True, size=1.0, seed=0)
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
    others[3] = torch.tensor([[0.1, 0.4, 0.4, 0.1], [0.4, 0.1, 0.1, 0.4], [0.2, 0.3, 0.2, 0.3]])
    seen, reliability = (logits, pooled, *others), fitted(2)
    found = judged_in_graph(reliability, 1, *seen)
    assert found[1].tolist() == [1, 0, 1]
    torch.testing.assert_close(found[3], judged_by_torch(reliability, 1, *seen)[3])


@torch.inference_mode()
def test_what_is_fitted_anew_counts_at_once() -> None:
    reliability, seen = fitted(1), an_exit(5, 3, 4, first=True, size=1.0, seed=0)
    judged_in_graph(reliability, 0, *seen)
    reliability.set_temperature(0, 3.0)
    reliability.set_fit(0, ([0.0] * 12, [1.0] * 12, [0.5] * 12, 0.1))
    found = judged_in_graph(reliability, 0, *seen)
    torch.testing.assert_close(found[3], judged_by_torch(reliability, 0, *seen)[3])


def test_the_code_writes_the_graphs_of_the_package(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from adaptive.training.judging import write_graphs

    write_graphs(tmp_path)
    written = {each.name: onnx.load(each) for each in tmp_path.iterdir()}
    packed = {each.name: onnx.load(each) for each in judging.GRAPHS.iterdir()}
    assert written == packed


def test_the_graphs_do_not_tell_where_they_were_written() -> None:
    for each in judging.GRAPHS.iterdir():
        written = each.read_bytes()
        assert b".py" not in written and b"/" not in written
