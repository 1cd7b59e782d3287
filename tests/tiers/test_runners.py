"""The table of runners: what each needs, and what is told where it is missing."""

from __future__ import annotations

import pytest

from adaptive.runners import RUNNERS, named
from adaptive.tiers import int8, runners
from adaptive.tiers.runners import lacking


def test_every_runner_has_a_name_by_what_it_does() -> None:
    plain = [name for name, each in RUNNERS.items() if each.dtype is None and each.device != "cuda"]
    assert plain == ["torch", "torch-int8", "onnxruntime", "onnxruntime-int8"]
    for name in plain:
        assert named(int8=RUNNERS[name].int8, graphs=RUNNERS[name].graphs) == name


def test_torch_lacks_nothing_anywhere() -> None:
    assert lacking("torch", "cpu", preparing=True) is lacking("torch", "cuda") is None


@pytest.mark.parametrize(
    ("name", "device", "told"),
    [
        ("cuda-graphs", "cpu", "cuda-graphs would run on a GPU, and this is cpu"),
        ("onnxruntime", "cuda", "onnxruntime would run on a CPU, and this is cuda"),
        ("torch-bfloat16", "cpu", "this CPU has no bfloat16 instructions"),
        ("torch-int8", "cpu", "fbgemm kernels are needed"),
        ("onnxruntime-int8", "cpu", "onnx, onnxruntime is not installed; pip install"),
    ],
)
def test_what_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, told: str
) -> None:
    monkeypatch.setattr(runners, "has_bfloat16", lambda: False)
    monkeypatch.setattr(int8, "available", lambda: False)
    monkeypatch.setattr(runners, "find_spec", lambda each: None)
    found = lacking(name, device, preparing=True)
    assert found is not None and told in found


def test_serving_needs_no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "onnxruntime"
    monkeypatch.setattr(runners, "find_spec", lambda each: there if each == there else None)
    assert lacking("onnxruntime", "cpu") is None
    assert "onnx is not installed" in str(lacking("onnxruntime", "cpu", preparing=True))
