"""The notebooks: both forms say the same, nothing is left in them, and they run."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
import pytest
from tiny_pool import pool, searched, texts_of

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import save_bundle
from adaptive.types import Target

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_hold_the_same_cells_and_no_outputs(script: Path) -> None:
    written = jupytext.read(script)
    paired = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert [(c.cell_type, c.source) for c in paired.cells] == [
        (c.cell_type, c.source) for c in written.cells
    ], "run `make notebooks`"
    for cell in paired.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def executed(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[Any]:
    """Outputs of a notebook's cells, run with these variables set."""
    everywhere = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "ADAPTIVE_LOOKS": "off"}
    for key, value in (everywhere | environment).items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=where).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(outputs: list[Any]) -> str:
    """What was printed, and the HTML of values that were shown."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return printed + "".join(output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.fixture(scope="module")
def labelled(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle with searched policies, and rows that it has not seen."""
    bundle = replace(searched(tiny_cascade), targets=(Target("accuracy_drop", 0.3),))
    folder = tmp_path_factory.mktemp("notebooks")
    save_bundle(bundle, folder / "bundle", card=render_card(bundle), recipe="name: x\n")
    texts, labels = pool(bundle, 250)
    lines = ["text,label", *(f"{text},{labels[text]}" for text in texts)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder / "bundle", folder / "rows.csv"


def test_explore_curve_runs_on_a_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("explore_curve", monkeypatch, ADAPTIVE_BUNDLE=str(tiny_bundle))
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert len(images) == 4
    assert "work of the full tier over the policy's" in printed
    assert "answer " in printed  # of pipeline.explain


@pytest.mark.slow
def test_train_routers_compares_them_with_entries_that_learn_nothing(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rows = labelled
    outputs = executed(
        "train_routers", monkeypatch, ADAPTIVE_BUNDLE=str(bundle), ADAPTIVE_DATA=str(rows)
    )
    told = text_of(outputs)
    assert "knn, tiny: AUC" in told and "oracle: accuracy" in told
    assert "AdaptivePipeline tiny-cascade" in told  # as notebooks show it


@pytest.mark.slow
def test_exits_see_tells_every_exit_and_explains_a_text(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rows = labelled
    outputs = executed(
        "exits_see", monkeypatch, ADAPTIVE_BUNDLE=str(bundle), ADAPTIVE_DATA=str(rows)
    )
    told = text_of(outputs)
    assert "full@2:" in told and "mid@1  " in told and "Policy over tiers" in told
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_certificate_simulated_breaks_by_picking_and_holds_by_testing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = text_of(executed("certificate_simulated", monkeypatch))
    picked, certified = (
        float(re.search(f"{words}: broken in ([0-9.]+)%", told)[1])  # type: ignore[index]
        for words in ("picked by the held-out loss", "certified")
    )
    assert picked > 25 and certified <= 8


@pytest.mark.slow
def test_own_model_goes_from_rows_to_a_certificate_and_a_report(
    labelled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rows = labelled
    shutil.copytree(bundle, tmp_path / "bundle")
    outputs = executed(
        "own_model",
        monkeypatch,
        ADAPTIVE_BUNDLE=str(tmp_path / "bundle"),
        ADAPTIVE_DATA=str(rows),
        ADAPTIVE_LEVEL="0.3",
        ADAPTIVE_REPORT=str(tmp_path / "report.html"),
    )
    told = text_of(outputs)
    assert "of 250 texts were labelled" in told and "certification rows" in told
    assert (tmp_path / "report.html").is_file()


def test_label_few_runs_on_a_bundle_and_unlabelled_texts(
    tiny_cascade: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = replace(searched(tiny_cascade), targets=(Target("accuracy_drop", 0.3),))
    save_bundle(bundle, tmp_path / "bundle", card=render_card(bundle), recipe="name: x\n")
    (tmp_path / "pool.csv").write_text("text\n" + "\n".join(texts_of(250, 3)) + "\n")
    monkeypatch.setenv("ADAPTIVE_BUNDLE", str(tmp_path / "bundle"))
    monkeypatch.setenv("ADAPTIVE_POOL", str(tmp_path / "pool.csv"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(ROOT / "notebooks" / "label_few.ipynb", as_version=4)
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "application/vnd.jupyter.widget-view+json" in kinds
    assert "250 texts, 3 labels" in printed and "0 labels of 250 texts" in printed
    assert "policies passed" in printed


def test_route_models_runs_on_the_outcomes_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_ROUTER", str(tmp_path / "router"))
    monkeypatch.setenv("ADAPTIVE_LOOKS", "off")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(ROOT / "notebooks" / "route_models.ipynb", as_version=4)
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "REPLACE: serve gpt-4o-mini-2024-07-18 in place of gpt-4o-2024-08-06" in printed
    assert "STALE" in printed and (tmp_path / "router" / "VERDICT.md").is_file()
