"""The benchmark of scaling, on tiny shapes: every axis is told, against its first place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_cascade import tiny_texts, tiny_tokenizer

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import runtime_cpu
import runtime_scaling as benchmark

from adaptive.engine import answer
from adaptive.pipeline import AdaptivePipeline


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    axes = {"tiers": (1, 2), "exits": (1, 3), "classes": (2, 20), "length": (8, 16)}
    monkeypatch.setattr(benchmark, "AXES", axes)
    monkeypatch.setattr(benchmark, "SHAPE", benchmark.SMALL)
    monkeypatch.setattr(benchmark, "TOKENS", 128)
    short = tiny_tokenizer(), tiny_texts(20)
    monkeypatch.setattr(runtime_cpu, "short_texts", lambda count, seed: short)
    file = tmp_path / "record.json"
    few = ["--texts", "20", "--most", "1000", "--repeats", "1", "--record", str(file)]
    monkeypatch.setattr(sys, "argv", ["runtime_cpu", "--only", "scaling", *few])
    runtime_cpu.main()
    record = json.loads(file.read_text())
    assert set(record["scaling_verdicts"]) == {*axes, "texts"}
    found: list[dict[str, Any]] = record["scaling"]
    return found


def test_every_place_of_every_axis_has_a_line(lines: list[dict[str, Any]]) -> None:
    places = {axis: tuple(x["at"] for x in lines if x["axis"] == axis) for axis in benchmark.AXES}
    assert places == benchmark.AXES
    texts = [line for line in lines if line["axis"] == "texts"]
    assert [line["at"] for line in texts] == [100, 1000]
    assert all(line["peak_megabytes"] > 0 for line in texts)
    for axis in (*benchmark.AXES, "texts"):
        first = next(line for line in lines if line["axis"] == axis)
        assert first["over_linear"] == 1.0 and first["milliseconds_a_text"] > 0


def test_nobody_leaves_before_the_last_stage() -> None:
    bundle = benchmark.make_bundle(
        tiny_tokenizer(), benchmark.SMALL, layers=3, tiers=2, exits=3, classes=5
    )
    rows = benchmark.random_rows(16, 0)
    stage = answer(bundle, rows, bundle.policy, 8).stage
    assert len(bundle.stages) == 6 and set(stage.tolist()) == {5}


def test_two_in_three_texts_leave_at_the_bag() -> None:
    texts = tiny_texts(90)
    bundle = benchmark.bag_bundle(tiny_tokenizer(), texts)
    tiers = [each["routing"]["tier"] for each in AdaptivePipeline(bundle)(texts)]
    assert 0.55 < tiers.count("tiny") / len(tiers) < 0.75


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_a_verdict_is_the_exponent_of_the_growth(power: float) -> None:
    lines = [
        {
            "axis": "length",
            "at": at,
            "milliseconds_a_text": at**power,
            "over_linear": at ** (power - 1),
        }
        for at in (1, 10, 100)
    ]
    found = benchmark.verdicts(lines)["length"]
    assert found["exponent"] == pytest.approx(power, abs=1e-6)
    assert found["verdict"] == ("more than linear" if power > 1.1 else "linear or less")
    assert found["unit_cost"] == sorted((1.0, 100 ** (power - 1)))
    assert f"length: exponent {power}" in benchmark.table(lines)


def test_of_texts_the_whole_cost_is_what_grows() -> None:
    lines = [
        {"axis": "texts", "at": at, "milliseconds_a_text": 2.0, "over_linear": 1.0}
        for at in (100, 1000)
    ]
    assert benchmark.verdicts(lines)["texts"]["exponent"] == 1.0
