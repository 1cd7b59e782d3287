"""Tuning measures what a bundle could be served by, changes nothing and says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from adaptive.cli import app
from adaptive.tiers import int8
from adaptive.training.tune import Line, Tuning, advice

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "format1"


def tuning(**took: float) -> Tuning:
    lines = [
        Line("full", name.replace("_", "-"), 1, 32, each, name == "torch")
        for name, each in took.items()
    ]
    slow = [Line("full", each.runner, 2, 32, 9.0, each.served) for each in lines]
    return Tuning((*lines, *slow), {}, 16)


def test_the_quickest_is_advised_and_how_to_certify_it() -> None:
    found = tuning(torch=4.0, torch_int8=2.0)
    assert found.best(32) == {"full": ("torch-int8", 1)}
    told = advice(found, 32)
    assert "serve: torch-int8 for full" in told and "--choose-runners` puts them" in told


def test_nothing_is_advised_where_the_bundle_is_about_as_quick() -> None:
    assert "every tier is served by the quickest" in advice(tuning(torch=2.0, torch_int8=1.99), 32)


def test_the_command_measures_a_bundle_and_leaves_it_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptive.tiers.runners.find_spec", lambda name: None)
    monkeypatch.setattr("adaptive.training.tune.SECONDS", 0.1)
    before = {file: file.stat().st_mtime_ns for file in GOLDEN.rglob("*")}
    threads = torch.get_num_threads()
    given = ["--json", "tune", str(GOLDEN), "--threads", "1", "--batch-size", "4"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    runners = ["torch", "torch-int8"] if int8.available() else ["torch"]
    assert {line["runner"] for line in told["lines"]} >= set(runners)
    assert {line["tier"] for line in told["lines"]} == {"full"}  # a bag has no layers to run
    assert {line["batch_size"] for line in told["lines"]} == {1, 4, 8, 32}
    assert all(line["milliseconds"] > 0 for line in told["lines"])
    assert [x["served"] for x in told["lines"] if x["runner"] == "torch"] == [True] * 4
    assert "pip install" in told["left_out"]["onnxruntime"] and told["advice"]
    assert {file: file.stat().st_mtime_ns for file in GOLDEN.rglob("*")} == before
    assert torch.get_num_threads() == threads
    shown = CliRunner().invoke(app, given[1:])
    assert "torch (served)" in shown.output and "batch 4" in shown.output
