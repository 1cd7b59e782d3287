"""The notebooks: both forms say the same, their outputs are small, and they run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from tiny_notebooks import EVERYWHERE, NOTEBOOKS, execute, write_inputs
from write_notebooks import WIDGET

from adaptive.bundle.contents import Bundle

SCRIPTS = sorted(NOTEBOOKS.glob("*.py"))
MOST_BYTES = 200_000
PATHS = re.compile(r"(?<![\w.<])/(home|root|tmp|work|Users|var|mnt|opt|usr|private)\b|[A-Z]:\\\\")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_hold_the_same_cells(script: Path) -> None:
    written = jupytext.read(script)
    paired = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert [(c.cell_type, c.source) for c in paired.cells] == [
        (c.cell_type, c.source) for c in written.cells
    ], "run `make notebooks`"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_is_committed_with_outputs_that_are_small_and_tell_nothing_of_the_machine(
    script: Path,
) -> None:
    file = script.with_suffix(".ipynb")
    assert file.stat().st_size < MOST_BYTES
    paired = nbformat.read(file, as_version=4)
    code = [cell for cell in paired.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs, "run `make notebooks`"
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr"
        told = {kind: text for kind, text in output.get("data", {}).items() if "image" not in kind}
        assert WIDGET not in told  # a page without a kernel cannot show it
        text = json.dumps(told, ensure_ascii=False) + output.get("text", "")
        assert not PATHS.search(text), PATHS.search(text)
        assert str(Path.home()) not in text


def executed(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[Any]:
    """Outputs of a notebook's cells, run with these variables set."""
    for key, value in (EVERYWHERE | environment).items():
        monkeypatch.setenv(key, value)
    cells = execute(name, NOTEBOOKS).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def text_of(outputs: list[Any]) -> str:
    """What was printed, and the HTML of values that were shown."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return printed + "".join(output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.fixture(scope="module")
def labelled(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle with searched policies, and rows that it has not seen."""
    folder = tmp_path_factory.mktemp("notebooks")
    write_inputs(folder, tiny_cascade)
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
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rows = labelled
    outputs = executed(
        "label_few",
        monkeypatch,
        ADAPTIVE_BUNDLE=str(bundle),
        ADAPTIVE_POOL=str(rows.with_name("pool.csv")),
    )
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    printed = text_of(outputs)
    assert WIDGET in kinds
    assert "250 texts, 3 labels" in printed and "0 labels of 250 texts" in printed
    assert "policies passed" in printed


def test_route_models_runs_on_the_outcomes_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = tmp_path / "router"
    printed = text_of(executed("route_models", monkeypatch, ADAPTIVE_ROUTER=str(router)))
    assert "REPLACE: serve gpt-4o-mini-2024-07-18 in place of gpt-4o-2024-08-06" in printed
    assert "STALE" in printed and (router / "VERDICT.md").is_file()
