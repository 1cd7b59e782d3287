"""What can be known to be wrong is told before the first step, all of it at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_builds import recipe_in, write_data, write_model
from transformers import AutoModelForTokenClassification
from typer.testing import CliRunner

from adaptive.cli import app
from adaptive.errors import AdaptiveError, BuildError, ConfigError, DataError, FamilyError
from adaptive.tiers import int8
from adaptive.training import prepare
from adaptive.training.build import build, check
from adaptive.training.data import from_memory
from adaptive.training.preflight import check_workdir


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and data. Not to be changed."""
    folder = tmp_path_factory.mktemp("sources")
    write_model(folder / "model")
    write_model(folder / "classifier", labels=("bad", "good"))
    write_model(folder / "llama", "llama")
    write_model(folder / "mpnet", "mpnet")
    write_data(folder / "data.csv")
    write_data(folder / "pairs.csv", pairs=True)
    return folder


@pytest.fixture(autouse=True)
def no_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> None:
        raise AssertionError("a step ran")

    monkeypatch.setattr("adaptive.training.build.run", fail)


def refused(sources: Path, tmp_path: Path, changes: dict[str, Any], **how: Any) -> AdaptiveError:
    """What a build raises; nothing may be left in its folders."""
    changes = {"output": str(tmp_path / "bundle")} | changes
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AdaptiveError) as raised:
        build(recipe_in(sources, changes), tmp_path / "run", quiet=True, **how)
    assert sorted(tmp_path.rglob("*")) == before
    return raised.value


def altered(sources: Path, folder: Path, name: str = "classifier", **changes: Any) -> str:
    """A copy of a model with another config."""
    folder.mkdir()
    for file in (sources / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return str(folder)


AS_IT_IS = {"full": {"tune": "none"}}
UNLABELLED = {"data": {"label": None}, "target": {"metric": "agreement"}}


@pytest.mark.parametrize("labels", [{}, UNLABELLED], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"id2label": {"0": "score"}, "label2id": {"score": 0}}, "num_labels is 1"),
        ({"problem_type": "regression"}, "problem_type is regression"),
        ({"problem_type": "multi_label_classification"}, "several labels"),
        ({"architectures": ["BertForTokenClassification"]}, "it is a BertForTokenClassification"),
        ({"architectures": ["BertForMaskedLM"]}, "it is a BertForMaskedLM"),
    ],
)
def test_a_checkpoint_of_another_task_is_refused_by_name(
    sources: Path, tmp_path: Path, config: dict[str, Any], told: str, labels: dict[str, Any]
) -> None:
    model = {"model": {"id": altered(sources, tmp_path / "model", **config)}}
    error = refused(sources, tmp_path, AS_IT_IS | labels | model)
    assert isinstance(error, BuildError)
    assert told in str(error) and "cannot be taken as it is" in str(error)


def test_a_decoder_that_labels_tokens_is_none_that_labels_texts(
    sources: Path, tmp_path: Path
) -> None:
    """Its head has the very name and shape of a classifier's of texts."""
    folder = altered(sources, tmp_path / "model", "llama")
    AutoModelForTokenClassification.from_pretrained(folder).save_pretrained(folder)
    error = refused(sources, tmp_path, AS_IT_IS | UNLABELLED | {"model": {"id": folder}})
    assert "it is a LlamaForTokenClassification" in str(error)


def test_a_head_for_other_labels_cannot_be_taken_as_it_is_and_no_label_is_quoted(
    sources: Path, tmp_path: Path
) -> None:
    other = {"id2label": {"0": "cold", "1": "warm"}, "label2id": {"cold": 0, "warm": 1}}
    model = {"model": {"id": altered(sources, tmp_path / "model", **other)}}
    told = str(refused(sources, tmp_path, AS_IT_IS | model))
    assert "no trained classification head for the data's 2 labels, of up to 4 characters" in told
    assert "good" not in told and "bad" not in told


def test_a_checkpoint_of_another_task_may_be_trained(sources: Path, tmp_path: Path) -> None:
    folder = altered(sources, tmp_path / "model", problem_type="multi_label_classification")
    assert check(recipe_in(sources, {"model": {"id": folder}}), tmp_path / "run")["labels"]


def test_an_output_that_holds_something_else_is_refused(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("mine")
    error = refused(sources, tmp_path, {})
    assert "bundle: exists and is no bundle" in str(error)
    file = refused(sources, tmp_path, {"output": str(tmp_path / "bundle" / "thesis.txt")})
    assert "exists and is no bundle" in str(file)
    below = refused(sources, tmp_path, {"output": str(tmp_path / "bundle" / "thesis.txt" / "b")})
    assert "thesis.txt is a file" in str(below)


@pytest.mark.parametrize("output", ["run", ".", "run/data", "run/full/bundle"])
def test_output_and_work_folder_are_kept_apart(sources: Path, tmp_path: Path, output: str) -> None:
    error = refused(sources, tmp_path, {"output": str(tmp_path / output)})
    assert "would overwrite each other" in str(error)


def test_a_bundle_may_lie_beside_the_steps(sources: Path, tmp_path: Path) -> None:
    check(recipe_in(sources, {"output": str(tmp_path / "run" / "bundle")}), tmp_path / "run")


@pytest.mark.parametrize("closed", ["", "bundles"])
def test_folders_that_may_not_be_written_to_are_refused(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    (tmp_path / "bundles").mkdir()
    access = os.access

    def allowed(place: Any, mode: int) -> bool:
        return access(place, mode) and Path(place) != tmp_path / closed

    monkeypatch.setattr(os, "access", allowed)
    error = refused(sources, tmp_path, {"output": str(tmp_path / "bundles" / "mine")})
    assert f"{tmp_path / closed} may not be written to" in str(error)


def test_a_work_folder_that_is_a_file_is_refused(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert "run is a file" in str(refused(sources, tmp_path, {}))


def test_a_misspelt_group_column_is_refused(sources: Path, tmp_path: Path) -> None:
    error = refused(sources, tmp_path, {"target": {"group": "sise"}})
    assert isinstance(error, DataError) and "no column 'sise'" in str(error)
    data = from_memory([f"film {number}" for number in range(600)], ["good", "bad"] * 300)
    told = refused(sources, tmp_path, {"target": {"group": "size"}}, data=data)
    assert "give it as one of `groups`" in str(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mid": {"layers": 4}}, "mid.layers is 4"),
        ({"full": {"exits": [0, 7]}}, "full.exits names depth 7"),
        ({"tiny": {"kind": "bag", "width": 64}}, "tiny.width"),
        ({"tiny": {"kind": "transformer", "layers": 9}}, "tiny: "),
        ({"full": {"tune": "lora", "lora": {"targets": ["nothing"]}}}, "full.lora.targets"),
        ({"full": {"tune": "adalora", "lora": {"targets": ["nothing"]}}}, "full.lora.targets"),
        ({"model": {"max_length": 65}}, "positions for 64 tokens"),
        ({"model": {"sha256": "00" * 32}}, "has SHA-256"),
        ({"model": {"id": "./nowhere"}}, "neither a folder here nor a hub id"),
        (AS_IT_IS, "it is a BertModel"),
        ({"data": {"text": "txt"}}, "no column 'txt' among 3; the nearest is column 1"),
        ({"data": {"splits": {"train": 5000}}}, "too few rows"),
        ({"data": {"unlabelled": [{"source": "./nothing.csv"}]}}, "nothing.csv"),
    ],
)
def test_what_recipe_data_and_model_show_to_be_wrong(
    sources: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert told in str(refused(sources, tmp_path, changes))


def test_a_prefix_that_attention_cannot_take_is_refused(sources: Path, tmp_path: Path) -> None:
    changes = {"model": {"id": str(sources / "mpnet")}, "full": {"tune": "prefix"}}
    assert "attention of a mpnet model is its own" in str(refused(sources, tmp_path, changes))


def test_layers_that_cannot_be_exported_are_refused(sources: Path, tmp_path: Path) -> None:
    changes = {"model": {"id": str(sources / "llama")}, "export": {"tiers": ["full"]}}
    error = refused(sources, tmp_path, changes)
    assert isinstance(error, FamilyError) and "are not exported" in str(error)


def test_what_is_not_installed_is_told(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.tiers.runners.find_spec", lambda name: None)
    error = refused(sources, tmp_path, {"export": {"tiers": ["full"]}})
    assert "onnx, onnxruntime is not installed; pip install" in str(error)
    monkeypatch.setattr("adaptive.training.preflight.find_spec", lambda name: None)
    error = refused(sources, tmp_path, {"tracking": "wandb"})
    assert "tracking: wandb is not installed; pip install" in str(error)
    monkeypatch.setattr(int8, "available", lambda: False)
    error = refused(sources, tmp_path, {"quantise": {"tiers": ["full"]}})
    assert "kernels are needed" in str(error)


def test_tiers_for_a_cpu_are_not_built_on_a_gpu(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    error = refused(sources, tmp_path, {"quantise": {"tiers": ["full"]}})
    assert "torch-int8 would run on a CPU, and this is cuda" in str(error)


def test_made_up_texts_and_pairs_do_not_go_together(sources: Path, tmp_path: Path) -> None:
    data = {"source": str(sources / "pairs.csv"), "pair": "pair"}
    error = refused(sources, tmp_path, {"data": data, "teacher": {"augment": 1}})
    assert "teacher.augment cuts single texts" in str(error)


def test_all_faults_are_told_at_once(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("mine")
    changes: dict[str, Any] = {"target": {"group": "sise"}, "mid": {"layers": 4}}
    error = refused(sources, tmp_path, changes)
    assert isinstance(error, ConfigError) and len(error.faults) == 3
    assert "3 faults, found before the first step" in str(error)
    for told in ("no bundle", "no column 'sise'", "mid.layers is 4"):
        assert told in str(error)
    error = refused(sources, tmp_path, {"model": {"id": "./nowhere"}})
    assert isinstance(error, ConfigError) and "./nowhere" in error.faults[1]


def test_check_alone_tells_what_was_found_and_writes_nothing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_in(sources, {"output": str(tmp_path / "bundle")})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True)))
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["build", str(file), "--check"])
    assert shown.exit_code == 0, shown.output
    assert "rows: 160 train, 80 fit" in shown.stdout and "nothing is wrong" in shown.stdout
    told = CliRunner().invoke(app, ["build", str(file), "--check", "--json"])
    found = json.loads(told.stdout)
    assert found["model"] == {"family": "bert", "layers": 3, "hidden": 32, "max_length": 64}
    assert found["labels"] == ["bad", "good"] and found["steps"][0] == "data"
    wrong = CliRunner().invoke(
        app,
        ["build", str(file), "--check", "--json", "--set", "mid.layers=9", "--set", "data.text=x"],
    )
    assert wrong.exit_code == 2 and len(json.loads(wrong.stderr)["faults"]) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["recipe.yaml"]


def test_texts_are_not_tokenised_to_find_faults(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_tokenize", None)
    check(recipe_in(sources), tmp_path / "run")


def test_a_work_folder_with_other_folders_is_refused(tmp_path: Path) -> None:
    for name in ("data", "log", ".git"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=r"holds folders that no build has made \(data\)"):
        check_workdir(tmp_path)
    (tmp_path / "data" / "step.json").write_text("{}")
    check_workdir(tmp_path)
    check_workdir(tmp_path / "new")
    (tmp_path / "begun" / "data.partial").mkdir(parents=True)
    (tmp_path / "begun" / "data.partial" / "inputs.json").write_text("{}")
    check_workdir(tmp_path / "begun")


def test_python_builds_refuse_such_a_work_folder_too(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "mine.txt").write_text("")
    assert "holds folders that no build has made" in str(refused(sources, tmp_path, {}))
