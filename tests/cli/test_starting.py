"""Building without a recipe: one is written for a checkpoint and a data set."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
import yaml
from tiny_builds import sentence, write_model
from typer.testing import CliRunner

from adaptive.cli import app
from adaptive.cli.session import dumps

START = ["build", "--data", "tickets.csv", "--text", "body", "--label", "queue", "--check"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With data of two labels, a classifier of them and a plain model."""
    draw = random.Random(0)
    rows = [f"{sentence(draw, n % 2 == 0)},{('good', 'bad')[n % 2]}" for n in range(120)]
    (tmp_path / "tickets.csv").write_text("body,queue\n" + "\n".join(rows) + "\n")
    write_model(tmp_path / "classifier", labels=("bad", "good"), num_hidden_layers=5)
    write_model(tmp_path / "plain", num_hidden_layers=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*START, *words])
    return result.exit_code, result.output + repr(result.exception)


def test_a_classifier_is_taken_as_it_is_and_halved_for_the_mid_tier(folder: Path) -> None:
    code, output = start("--model", "classifier", "--keep", "0.98")
    assert code == 0, output
    assert "tickets.yaml" in output
    recipe = yaml.safe_load((folder / "tickets.yaml").read_text())
    assert recipe == {
        "name": "tickets",
        "output": "bundles/tickets",
        "model": {"id": "classifier"},
        "data": {"source": "tickets.csv", "text": "body", "label": "queue"},
        "tiers": [
            {"name": "tiny", "kind": "bag", "width": 32, "bigrams": 262144},
            {"name": "mid", "kind": "pruned", "layers": 3, "heads": 0.5, "ffn": 0.5},
            {"name": "full", "kind": "checkpoint", "tune": "none"},
        ],
        "target": {"metric": "accuracy_drop", "level": 0.02},
    }


def test_a_plain_model_is_fine_tuned_and_one_layer_is_not_halved(folder: Path) -> None:
    code, output = start("--model", "plain")
    assert code == 0, output
    recipe = yaml.safe_load((folder / "tickets.yaml").read_text())
    assert [each["name"] for each in recipe["tiers"]] == ["tiny", "full"]
    assert recipe["tiers"][1]["tune"] == "full"


def test_vectors_of_the_tiny_tier_are_no_wider_than_the_models_tokens(folder: Path) -> None:
    write_model(folder / "narrow", family="electra", num_hidden_layers=1)
    code, output = start("--model", "narrow")
    assert code == 0, output
    recipe = yaml.safe_load((folder / "tickets.yaml").read_text())
    assert recipe["tiers"][0]["width"] == 16


def test_the_same_command_goes_on_with_files_of_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    words = ["build", *START[3:], "--data", "../tickets.csv", "--model", "../plain"]
    for _ in range(2):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output


def test_the_same_command_goes_on_and_a_changed_recipe_is_not_overwritten(folder: Path) -> None:
    assert start("--model", "classifier")[0] == 0
    assert start("--model", "classifier")[0] == 0
    file = folder / "tickets.yaml"
    changed = file.read_text().replace("layers: 3", "layers: 2")
    file.write_text(changed)
    code, output = start("--model", "classifier")
    assert code == 2 and "another recipe" in output
    assert file.read_text() == changed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "classifier", "--keep", "99"], "--keep"),
        ([], "--model and --data"),
        (["tickets.yaml", "--model", "classifier"], "--set model.id"),
        (["--model", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_what_cannot_be_started_is_told(folder: Path, words: list[str], told: str) -> None:
    code, output = start(*words)
    assert code == 2 and told in output.replace("\n", " ")
    assert not (folder / "tickets.yaml").exists()


def test_a_file_of_another_script_gets_a_plain_name_and_readable_columns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (folder / "tickets.csv").read_text().replace("body,queue", "评论内容，,类别", 1)
    (folder / "评论.csv").write_text(rows, encoding="utf-8")
    words = ["build", "--data", "评论.csv", "--text", "评论内容，", "--label", "类别", "--check"]
    result = CliRunner().invoke(app, [*words, "--model", "plain"])
    assert result.exit_code == 0, result.output
    told = (folder / "cascade.yaml").read_text(encoding="utf-8")
    assert "source: 评论.csv" in told and "label: 类别" in told


def test_json_keeps_letters_where_the_output_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert dumps({"label": "质量"}) == '{"label": "质量"}'
    assert "\\ud800" in dumps({"label": "\ud800"})  # half of a letter is none
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert dumps({"label": "Kündigung"}) == '{"label": "Kündigung"}'
    assert dumps({"label": "质量"}) == '{"label": "\\u8d28\\u91cf"}'
