"""No text is cut without a word, and none that the model reads whole unless asked for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_builds import NEUTRAL, context_of, recipe_in, write_data, write_model

from adaptive.cli.build import _emit
from adaptive.cli.session import Session
from adaptive.errors import BuildError
from adaptive.training.build import build
from adaptive.training.measure_costs import _lengths, load_costs
from adaptive.training.steps import Figures

SMALL: dict[str, Any] = {"mid": None, "tiny": None, "router": {"candidates": ["logistic"]}}
QUICK: dict[str, Any] = {"full": {"epochs": 1}, "exits": {"epochs": 1}}


def write_long(file: Path, words: int, long: int = 560, rows: int = 560) -> Path:
    """Rows whose last word tells the label, the first `long` of them of so many words."""
    draw = random.Random(0)
    lines = ["text,label"]
    for number in range(rows):
        told = ("fine", "dull")[number % 2]
        text = draw.choices(NEUTRAL, k=words - 1 if number < long else 9)
        lines.append(f"{' '.join(text)} {told},{('good', 'bad')[number % 2]}")
    file.write_text("\n".join(lines) + "\n")
    return file


def figures(folder: Path, changes: dict[str, Any], length: int | None = None) -> Figures:
    """Of step `data`, with that `model.max_length`."""
    if not (folder / "model").exists():
        write_model(folder / "model")
    recipe = recipe_in(folder, {"model": {"max_length": length}} | changes)
    build(recipe, folder / "run", until="data", quiet=True)
    return context_of(recipe, folder / "run").figures("data")


def test_unlabelled_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    write_data(tmp_path / "data.csv")
    write_long(tmp_path / "more.csv", words=40, long=30, rows=50)
    found = figures(
        tmp_path, {"data": {"unlabelled": [{"source": str(tmp_path / "more.csv")}]}}, 16
    )
    assert (found["unlabelled"], found["unlabelled_cut"]) == (50, 30)
    told = "30 of 50 unlabelled texts have more than 16 tokens and are cut there"
    assert found["warnings"] == [told]


def test_without_a_length_texts_are_read_as_far_as_the_model_can(tmp_path: Path) -> None:
    write_long(tmp_path / "data.csv", 60)
    found = figures(tmp_path, {})
    assert (found["max_length"], found["longest"], found["cut"]) == (64, 62, 0.0)
    assert "warnings" not in found


def test_what_the_tokenizer_says_bounds_the_length_too(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 20}))
    assert figures(tmp_path, {})["max_length"] == 20
    assert figures(tmp_path, {}, 30)["max_length"] == 30  # asked for


def test_rows_longer_than_the_model_reads_are_asked_about(tmp_path: Path) -> None:
    write_long(tmp_path / "data.csv", 70, long=56)
    with pytest.raises(BuildError) as raised:
        figures(tmp_path, {})
    told = str(raised.value)
    assert "of 540 texts" in told and "more than the 64 tokens" in told
    assert "the longest 72" in told and "Set model.max_length to 64" in told
    assert 0.05 < figures(tmp_path, {}, 64)["cut"] < 0.15


def test_a_share_that_is_cut_is_told_at_every_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_long(tmp_path / "data.csv", 30, long=280)
    for _ in range(2):
        caplog.clear()
        found = figures(tmp_path, {}, 16)
        assert "have more than 16 tokens (model.max_length) and are cut there" in caplog.text
        assert "the longest 32; the model reads up to 64" in caplog.text
    assert 0.4 < found["cut"] < 0.6


@pytest.mark.parametrize("length", [16, 31])
def test_a_model_taken_as_it_is_reads_what_it_would_read_without_us(
    tmp_path: Path, length: int
) -> None:
    write_model(tmp_path / "model", labels=("bad", "good"))
    write_long(tmp_path / "data.csv", 30, long=280)
    with pytest.raises(BuildError, match=r"leave model\.max_length out, or set it to 32 or more"):
        figures(tmp_path, {"full": {"tune": "none"}}, length)
    for enough in (None, 32):
        assert figures(tmp_path, {"full": {"tune": "none"}}, enough)["cut"] == 0.0


def test_a_model_taken_as_it_is_may_be_cut_where_it_reads_no_further(tmp_path: Path) -> None:
    write_model(tmp_path / "model", labels=("bad", "good"))
    write_long(tmp_path / "data.csv", 70)
    assert figures(tmp_path, {"full": {"tune": "none"}}, 64)["cut"] == 1.0


def test_card_certificate_and_closing_lines_tell_what_was_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "model")
    write_long(tmp_path / "data.csv", 30)
    recipe = recipe_in(tmp_path, SMALL | QUICK | {"model": {"max_length": 8}})
    bundle = build(recipe, tmp_path / "run", quiet=True)
    card = (bundle / "README.md").read_text()
    assert "Texts of more than 8 tokens are cut there" in card
    assert "100.00% of those it was built on were" in card
    assert "**Warning:** 540 of 540 texts (100.00%)" in card
    page = (bundle / "CERTIFICATE.md").read_text()
    assert "at most 8; 100.00% of the certification rows were longer and were cut" in page
    certificate = json.loads((bundle / "certificate.json").read_text())
    assert certificate["conditions"]["cut"] == 1.0
    _emit(Session(), bundle, json.loads((bundle / "bundle.json").read_text())["info"])
    shown = capsys.readouterr().out
    assert "texts are read up to 8 tokens; 100.00% of these were longer and were cut" in shown
    assert "warning: 540 of 540 texts" in shown


def test_costs_are_measured_up_to_the_longest_row(tmp_path: Path) -> None:
    assert _lengths(20) == _lengths(128) == [8, 16, 32, 64, 128]
    assert _lengths(300) == [8, 16, 32, 64, 128, 256, 300]
    write_model(tmp_path / "model", max_position_embeddings=150)
    write_long(tmp_path / "data.csv", 140)
    changes = SMALL | QUICK | {"cost": {"lengths": None}, "model": {"max_length": None}}
    recipe = recipe_in(tmp_path, changes)
    build(recipe, tmp_path / "run", until="costs", quiet=True)
    found = load_costs(context_of(recipe, tmp_path / "run"))
    assert found.lengths.tolist() == [8, 16, 32, 64, 128, 142]
