"""A router from recorded outcomes in one call, and from the command line."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.metrics import log_loss, roc_auc_score

from adaptive.bundle.contents import stages_of
from adaptive.bundle.outcomes import save_outcomes
from adaptive.policy.costs import MILLISECONDS, CostTable, work_table
from adaptive.policy.worth import classified, worse_of
from adaptive.routers.fit import fit_router
from adaptive.routers.router import KINDS
from adaptive.routers.train import auc, train_router
from adaptive.training.learn.routers import load_router
from adaptive.training.router import main, train
from adaptive.types import OutcomeTable

STAGES = stages_of(((0,), (1,), (1,)))
ROWS = 600


def outcomes(rows: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Features of which the first tells where tier 0 fails; tier 1 never does."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    fails = rng.random(rows) < 1 / (1 + np.exp(-4 * features[:, 0]))
    return features, np.stack([fails, np.zeros(rows, bool)], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_is_judged_on_rows_it_was_not_fitted_on(kind: str) -> None:
    features, worse = outcomes(800)
    lengths = np.random.default_rng(1).integers(1, 50, 800)
    found = train_router(features, worse, kind, lengths=lengths, held_out=0.25, seed=3)
    fitted = np.setdiff1d(np.arange(800), found.held_out)
    assert found.report["rows"] == {"fitted": 600, "held_out": 200}
    own = fit_router(kind, features[fitted], worse[fitted], 3)
    held = torch.from_numpy(features[found.held_out])
    torch.testing.assert_close(found.router.risk(held), own.risk(held))
    first, last = found.report["tiers"]
    said, was = own.risk(held)[:, 0].numpy(), worse[found.held_out, 0]
    assert first["auc"] == pytest.approx(roc_auc_score(was, said))
    assert first["log_loss"] == pytest.approx(log_loss(was, said.astype(float)), rel=1e-5)
    assert first["auc"] > 0.85 > 0.65 > first["auc_by_length"] > 0.35
    assert first["log_loss"] < first["log_loss_constant"] - 0.1
    assert last["auc"] is None and last["worse"] == 0.0


def test_rows_to_judge_on_may_be_named() -> None:
    features, worse = outcomes(50)
    found = train_router(features, worse, held_out=np.arange(40, 50))
    assert found.held_out.tolist() == list(range(40, 50))


@pytest.mark.parametrize("held_out", [0.0, 1.0, np.array([50]), np.array([-1])])
def test_no_rows_to_fit_or_to_judge_on_are_refused(held_out: float | NDArray) -> None:
    with pytest.raises(ValueError, match="of 50 rows are held out"):
        train_router(*outcomes(50), held_out=held_out)


def test_ties_count_half() -> None:
    rng = np.random.default_rng(0)
    score, outcome = rng.integers(0, 4, 200), rng.random(200) < 0.4
    assert auc(score, outcome) == pytest.approx(roc_auc_score(outcome, score))
    assert auc(np.zeros(4), np.array([True, True, False, False])) == 0.5


def recorded(seed: int) -> tuple[OutcomeTable, NDArray]:
    """Three tiers, of which the second errs on hard texts and knows it, as the features do."""
    rng = np.random.default_rng(seed)
    hard = rng.random(ROWS) < 0.4
    labels = rng.integers(0, 2, ROWS).astype(np.int32)
    sure = np.stack([np.full(ROWS, 0.1), np.where(hard, 0.1, 0.9), np.full(ROWS, 0.9)], 1)
    said = [1 - labels, np.where(hard, 1 - labels, labels), labels]
    table = classified(
        STAGES,
        np.stack(said, 1).astype(np.int32),
        sure.astype(np.float32),
        np.zeros((ROWS, 3), np.float32),
        labels,
        rng.integers(2, 9, ROWS),
    )
    features = rng.normal(size=(ROWS, 3)).astype(np.float32)
    features[:, 1] = np.where(hard, 2.0, -2.0) + 0.1 * features[:, 1]
    return table, features


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a build's steps `outcomes` and `costs` leave."""
    folder = tmp_path / "run"
    for name in ("outcomes", "costs"):
        (folder / name).mkdir(parents=True)
    for seed, split in enumerate(("fit", "search")):
        table, features = recorded(seed)
        save_outcomes(table, folder / "outcomes" / f"{split}.safetensors")
        beside = folder / "outcomes" / f"{split}.routing.safetensors"
        save_file({"features": features}, beside)
    work = work_table([1.0] * 3, [0.0, 50.0, 100.0], [1.0] * 3, 0.0, 100.0)
    low, layers = np.full((3, 2), 0.01), np.array([[0.0, 0.0], [0.5, 4.5], [1.0, 9.0]])
    measured = CostTable(MILLISECONDS, np.array([1.0, 9.0]), low, layers, low, np.zeros(2))
    for name, each in (("costs", measured), ("work", work)):
        (folder / "costs" / f"{name}.json").write_text(json.dumps(each.to_json()))
    return folder


def test_the_report_tells_what_a_router_saves(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--outcomes", str(run), "--out", str(tmp_path / "router")]) == 0
    told = capsys.readouterr().out
    assert "600 rows fitted, 600 held out" in told and "tier 1: worse on 4" in told
    report = json.loads((tmp_path / "router" / "report.json").read_text())
    without, routed = report["costs"]["without"], report["costs"]["with"]
    assert report["target"] == "accuracy_drop=0.01"
    # 40 % of the texts need the third tier, and skip the second, at half of its price
    assert routed["cost"] == pytest.approx(7 / 9 * without["cost"], rel=0.05)
    assert routed["excess"] <= 0 and without["unit"] == MILLISECONDS
    features = torch.from_numpy(recorded(1)[1])
    risk = load_router(tmp_path / "router").risk(features)[:, 1].numpy()
    assert auc(risk, worse_of(recorded(1)[0])[:, 1]) > 0.99


def test_a_table_alone_is_dealt_in_two(run: Path, tmp_path: Path) -> None:
    file = run / "outcomes" / "fit.safetensors"
    report = train(file, tmp_path / "router", "knn")
    assert report["rows"] == {"fitted": 300, "held_out": 300} and "costs" not in report
    priced = train(file, tmp_path / "router", "knn", "agreement=0.9", run / "costs")
    assert priced["costs"]["without"] is not None and priced["target"] == "agreement=0.9"


def test_features_and_outcomes_alone_are_enough(tmp_path: Path) -> None:
    features, worse = outcomes(200)
    save_file({"features": features, "worse": worse}, tmp_path / "mine.safetensors")
    report = train(tmp_path / "mine.safetensors", tmp_path / "router", "mlp")
    assert report["tiers"][0]["auc"] > 0.8
    assert load_router(tmp_path / "router").kind == "mlp"


def test_what_cannot_be_trained_on_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    other = tmp_path / "other.safetensors"
    save_file({"features": np.zeros((2, 2))}, other)
    alone = tmp_path / "alone.safetensors"
    save_outcomes(recorded(0)[0], alone)
    cases = {
        bundle: "is a bundle, which keeps no features for a router",
        tmp_path / "none": "no such file or folder",
        other: "expected an outcome table, or features and worse",
        alone: "alone.routing.safetensors: no such file",
    }
    for path, message in cases.items():
        assert main(["--outcomes", str(path), "--out", str(tmp_path / "router")]) == 1
        assert message in capsys.readouterr().err
    (run / "costs" / "work.json").unlink()
    assert main(["--outcomes", str(run), "--out", str(tmp_path / "router")]) == 1
    assert "build again, step `costs` writes it" in capsys.readouterr().err
    assert not (tmp_path / "router").exists()


def test_it_runs_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["router", "--help"])
    monkeypatch.delitem(sys.modules, "adaptive.training.router")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("adaptive.training.router", run_name="__main__")
    assert ended.value.code == 0 and "--outcomes" in capsys.readouterr().out


def test_the_page_on_training_works_as_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    monkeypatch.chdir(run.parent)
    (run.parent / "runs").mkdir()
    run.rename(run.parent / "runs" / "tickets")
    (command,) = re.findall(r"^python -m adaptive\.training\.router (.*)$", page, re.MULTILINE)
    assert main(shlex.split(command)) == 0
    assert "knn: 600 rows fitted" in capsys.readouterr().out
    cells = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (cell,) = (each for each in cells if "train_router" in each)
    names: dict[str, Any] = {}
    exec(cell, names)
    assert names["found"].report["tiers"][1]["auc"] > 0.99
