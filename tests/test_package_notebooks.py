"""The notebooks: both forms say the same, nothing is left in them, and they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
from tiny_pool import searched, texts_of

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import save_bundle
from adaptive.types import Target

ROOT = Path(__file__).resolve().parent.parent
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


def test_explore_curve_runs_on_a_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTIVE_BUNDLE", str(tiny_bundle))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(ROOT / "notebooks" / "explore_curve.ipynb", as_version=4)
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert len(images) == 4
    assert "work of the full tier over the policy's" in printed
    assert "answer " in printed  # of pipeline.explain


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
