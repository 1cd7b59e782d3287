"""The commands one after another on a real, tiny cascade."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_cascade import tiny_texts
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from adaptive.bundle.contents import Bundle
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.cli import app
from adaptive.cli.labelled import load_labelled
from adaptive.config import load_recipe
from adaptive.pipeline import AdaptivePipeline
from adaptive.tiers.runners import lacking
from adaptive.training.data import load_data
from adaptive.training.splits import make_splits

GOOD, BAD = ["fine", "great", "warm", "clever"], ["dull", "poor", "flat", "tired"]
NEUTRAL = ["film", "story", "cast", "plot", "very", "and", "a", "the"]


def run(*args: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(each) for each in args], input=stdin)


def write_model(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *NEUTRAL]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


def write_data(file: Path, rows: int, seed: int) -> Path:
    draw = random.Random(seed)
    lines = ["review,stars,source"]
    for number in range(rows):
        told = [*draw.choices((GOOD, BAD)[number % 2], k=2), *draw.choices(NEUTRAL, k=4)]
        draw.shuffle(told)
        lines.append(f"{' '.join(told)},{1 - number % 2},{'web' if number % 3 else 'post'}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    recipe = {
        "name": "tiny-reviews",
        "seed": 1,  # under which three epochs are enough
        "output": str(folder / "bundle"),
        "model": {"id": str(write_model(folder / "model")), "max_length": 16},
        "data": {
            "source": str(write_data(folder / "data.csv", 620, seed=0)),
            "text": "review",
            "label": "stars",
            "rename": {"0": "bad", "1": "good"},
            "splits": {"train": 160, "fit": 80, "search": 80, "certify": 160, "test": 60},
        },
        "full": {"epochs": 3, "learning_rate": 3e-3},
        "tiny": {"kind": "bag", "epochs": 2},
        "exits": {"epochs": 2},
        "router": {"candidates": ["logistic"]},
        "search": {"minimise": "work", "sweeps": 1},
        "cost": {"batch_size": 4, "lengths": [4, 8], "repeats": 1},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    result = run("build", folder / "recipe.yaml", "--workdir", folder / "run", "--quiet", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["result"] == str(folder / "bundle")
    assert report["figures"]["texts"] == 60
    return folder / "bundle"


def test_a_second_build_skips_every_step(folder: Path, bundle: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (folder / "run").glob("*/step.json")}
    result = run("build", folder / "recipe.yaml", "--workdir", folder / "run")
    assert result.exit_code == 0
    after = {file: file.stat().st_mtime_ns for file in (folder / "run").glob("*/step.json")}
    assert len(before) >= 8 and before == after
    assert "skipped" in result.stderr


def test_a_build_ends_with_the_verdict(folder: Path, bundle: Path) -> None:
    result = run("build", folder / "recipe.yaml", "--workdir", folder / "run")
    told = next(line for line in result.stdout.splitlines() if line.startswith("certificate: "))
    found = json.loads(run("info", bundle, "--json").stdout)["certificate"]
    assert told.startswith(f"certificate: {found['headline']}: {found['certified']} of ")


def test_an_unknown_step_is_refused_with_those_there_are(folder: Path) -> None:
    result = run("step", folder / "recipe.yaml", "fulll", "--workdir", folder / "other")
    assert result.exit_code == 2
    assert "the steps are data, full" in result.stderr


def test_info_loads_no_weights(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = load_bundle(bundle, uncertified=True).tiers

    def load(*given: Any) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr("safetensors.torch.load_file", load)
    monkeypatch.setattr("adaptive.tiers.store.load_tier", load)
    found = json.loads(run("info", bundle, "--json").stdout)["tiers"]
    assert [(t["tier"], t["layers"], t["hidden"], t["parameters"]) for t in found] == [
        (t.name, t.backbone.layers, t.backbone.hidden, t.parameter_count()) for t in tiers
    ]


def test_info_tells_what_the_bundle_is(bundle: Path) -> None:
    facts = json.loads(run("info", bundle, "--json").stdout)
    assert facts["labels"] == ["bad", "good"]
    assert [tier["tier"] for tier in facts["tiers"]] == ["tiny", "full"]
    shown = run("info", bundle)
    assert shown.exit_code == 0
    assert "tiny-reviews" in shown.stdout and "accuracy_drop" in shown.stdout


def test_predict_answers_with_tier_and_exit(bundle: Path) -> None:
    rows = ["a fine great film", "", "the dull flat plot"]
    stdin = "\n".join([json.dumps({"review": row}) for row in rows] + ['{"review": 1}'])
    result = run("predict", bundle, "--quiet", stdin=stdin)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["label"] for line in lines[:3:2]] == ["good", "bad"]
    assert {"tier", "exit", "reliability", "cost"} <= lines[1]["routing"].keys()
    assert lines[3]["row"] == 4


def test_evaluate_on_the_own_test_split_gives_the_figures_of_the_build(bundle: Path) -> None:
    built = json.loads((bundle / "bundle.json").read_text())["info"]["figures"]
    result = run("--json", "evaluate", bundle, "test")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["texts"] == built["texts"] == 60
    for row, before in zip(found["rows"], built["rows"], strict=True):
        assert {k: row[k] for k in ("name", "accuracy", "work")} == {
            k: before[k] for k in ("name", "accuracy", "work")
        }


def test_evaluate_shows_the_policy_each_tier_and_who_answered(bundle: Path) -> None:
    report = json.loads(run("--json", "evaluate", bundle, "test").stdout)
    shown = run("evaluate", bundle, "test")
    assert shown.exit_code == 0, shown.output
    *lines, summary, single, length = shown.stdout.splitlines()
    for row in report["rows"]:
        (line,) = (line for line in lines if f" {row['name']} " in line)
        assert f"{100 * row['accuracy']:.2f} %" in line
        assert f"{100 * row['agreement']:.2f} %" in line
        assert f"{row['work']:,.4g}" in line
    assert sum(report["stage_shares"].values()) == pytest.approx(1)
    for stage, share in report["stage_shares"].items():
        (line,) = (line for line in lines if f" {stage} " in line)
        assert f"{100 * share:.2f} %" in line
    assert [row["name"] for row in report["rows"]] == ["policy", "tiny alone", "full alone"]
    assert f"{report['work_ratio']:.1f} times less work" in summary
    assert f"{report['accuracy_ratio']:.2%} of its accuracy" in summary
    assert ("no tier alone" in single) == (report["single"] is None)
    assert f"up to {report['max_length']} tokens; {report['cut']:.2%} of these" in length


def test_the_own_test_split_is_that_of_the_build_whatever_the_seed(
    folder: Path, tmp_path: Path
) -> None:
    """`limit` draws rows and the splits share them out: both by the recipe's own seed."""
    recipe = load_recipe(folder / "recipe.yaml", ["seed=7", "data.limit=560"])
    data = load_data(recipe.data, 7)
    test = make_splits(data, recipe.data.splits, 7).test
    kept = tmp_path / "bundle"
    kept.mkdir()
    (kept / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    found = load_labelled(None, str(kept), ["bad", "good"])
    assert len(found) == 60
    assert found.texts == [data.texts[row] for row in test]


def test_a_device_that_is_not_there_is_a_message(bundle: Path) -> None:
    for device in ("gpu", "cuda:99"):
        result = run("predict", bundle, "--device", device, stdin="review\nx\n")
        assert result.exit_code == 2
        assert device in result.stderr and "Traceback" not in result.stderr


def test_a_preset_is_served_as_it_says(bundle: Path, tmp_path: Path) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump({"bundle": str(bundle), "overflow": "error"}))
    result = run("predict", preset, "--quiet", stdin=f"review\nfine\n{'dull ' * 30}\n")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert "label" in lines[0] and "the limit is 16" in lines[1]["error"]
    assert json.loads(run("info", preset, "--json").stdout)["name"] == "tiny-reviews"
    preset.write_text(yaml.safe_dump({"bundle": str(bundle), "policy": "nosuch"}))
    refused = run("predict", preset, stdin="review\nfine\n")
    assert refused.exit_code == 2 and "nosuch" in refused.stderr


def test_a_bundle_without_outcomes_is_evaluated_and_drawn(
    tiny_cascade: Bundle, tmp_path: Path
) -> None:
    plain = replace(tiny_cascade, outcomes={}, costs=None, ladder=())
    folder = save_bundle(plain, tmp_path / "plain", card="card\n", recipe="name: x\n")
    data = tmp_path / "texts.csv"
    data.write_text("text,label\n" + "".join(f"{text},good\n" for text in tiny_texts(9)))
    report = json.loads(run("evaluate", folder, data, "--json").stdout)
    assert report["texts"] == 9 and report["rows"][-1]["name"] == "full alone"
    picture = tmp_path / "curve.png"
    points = json.loads(run("curve", folder, data, "--json", "--output", picture).stdout)
    assert points["unit"] == "layers x tokens" and picture.is_file()
    refused = run("evaluate", folder, "test")
    assert refused.exit_code == 2 and "recipe.yaml" in refused.stderr


def test_evaluate_takes_any_source_with_columns_and_names(bundle: Path, folder: Path) -> None:
    other = write_data(folder / "other.csv", 40, seed=1)
    args = ["--text", "review", "--label", "stars", "--rename", "0=bad", "--rename", "1=good"]
    result = run("evaluate", bundle, other, *args)
    assert result.exit_code == 0, result.output
    own = run("evaluate", bundle, other)
    assert own.exit_code == 0 and "40 texts" in own.stdout
    assert "40 texts" in result.stdout and "full alone" in result.stdout
    wrong = run("evaluate", bundle, other, *args[:4], "--rename", "0=poor", "--rename", "1=good")
    assert wrong.exit_code == 2
    assert "its label (length 4) is not one of the 2 known labels; known: bad, good" in wrong.stderr
    alone = run("evaluate", bundle, other, "--text", "review", "--label", "", "--json")
    assert alone.exit_code == 0, alone.output
    assert json.loads(alone.stdout)["rows"][0]["accuracy"] is None


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curve_draws_a_picture(bundle: Path, tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"x.{suffix}"
    result = run("curve", bundle, "test", "--output", picture, "--work", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["unit"] == "layers x tokens"
    assert {"tier", "chosen"} <= {point["kind"] for point in found["points"]}
    assert (found["file"], found["quality"]) == (str(picture), "accuracy")
    fields = {"kind", "name", "cost", "quality", "abstained"}
    assert all(fields == point.keys() for point in found["points"])
    start = picture.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") or b"<?xml" in start


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    policy = copy / "policy.json"
    policy.write_text(policy.read_text() + " ")
    result = run("predict", copy, stdin="review\nx\n")
    assert result.exit_code == 3
    assert "policy.json" in result.stderr


def test_info_tells_the_certificate(bundle: Path) -> None:
    facts = json.loads(run("info", bundle, "--json").stdout)
    found = facts["certificate"]
    assert found["verdict"] in ("CERTIFIED", "NOT CERTIFIED", "DO NOT ROUTE")
    assert (found["n"], found["front"]) == (160, len(facts["ladder"]))
    assert sum(entry["certified"] for entry in facts["ladder"]) == found["certified"] > 0
    assert found["headline"] in run("info", bundle).stdout


def test_certify_rewrites_the_bundle_for_another_target_on_new_data(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    data = write_data(tmp_path / "new.csv", 300, seed=5)
    columns = ["--text", "review", "--label", "stars", "--rename", "0=bad", "--rename", "1=good"]
    chosen = ["--target", "agreement=0.2", "--level", "0.3", "--confidence", "0.9"]
    result = run("certify", copy, data, *columns, *chosen, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["result"], found["n"]) == (str(copy), 300)
    told = [line for line in result.stderr.splitlines() if line.startswith("step")]
    assert [line.partition(",")[0] for line in told] == [f"step {n // 2} of 3" for n in range(2, 8)]
    assert told[2] == "step 2 of 3, answering 300 rows at every stage: started"
    assert told[3].startswith("step 2 of 3, answering 300 rows at every stage: done in ")
    (further,) = found["further"]
    assert further["target"] == "agreement=0.3" and further["n"] == 300
    facts = json.loads(run("info", copy, "--json").stdout)
    assert facts["certificate"]["further"] == [further]
    (target,) = facts["targets"]
    assert target == {"metric": "agreement", "level": 0.2, "confidence": 0.9, "group": None}
    assert facts["certificate"]["headline"] == found["headline"]
    content = json.loads((copy / "certificate.json").read_text())
    assert content["n"] == 300 and content["claims"][0]["test"] == "binomial"
    assert found["headline"] in (copy / "CERTIFICATE.md").read_text()
    assert found["headline"] in (copy / "README.md").read_text()
    (line,) = run("predict", copy, "--quiet", stdin="review\na fine film\n").stdout.splitlines()
    assert json.loads(line)["routing"]["covered"] is True
    for file in copy.glob("tiers/*/*"):
        assert file.read_bytes() == (bundle / file.relative_to(copy)).read_bytes()
    shown = run("certify", copy, data, *columns)
    assert shown.exit_code == 0 and "policies passed on 300 rows" in shown.stdout
    assert "agreement=0.3: " in shown.stdout  # a level that it had it keeps
    other = run("certify", copy, data, *columns, "--target", "accuracy_drop=0.3", "--json")
    assert json.loads(other.stdout)["further"] == []  # but not as another metric's


def test_certify_takes_a_budget_and_tells_what_it_costs_in_quality(
    bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    data = write_data(tmp_path / "new.csv", 300, seed=5)
    columns = ["--text", "review", "--label", "stars", "--rename", "0=bad", "--rename", "1=good"]
    result = run("certify", copy, data, *columns, "--target", "work=12", "--level", "6", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["quality"].startswith("accuracy_drop=")
    assert found["further"][0]["target"] == "work=6"
    content = json.loads((copy / "certificate.json").read_text())
    costs = [tested["cost"] for tested in content["front"]]
    assert costs == sorted(costs) and costs[content["certified"] - 1] <= 12
    assert content["quality"]["metric"] == "accuracy_drop"
    info = run("info", copy).stdout
    assert "work 12, confidence 0.95" in info and "besides accuracy_drop=" in info
    assert "Proved besides: at most" in (copy / "README.md").read_text()
    preset = tmp_path / "preset.yaml"
    preset.write_text(f"bundle: {copy}\ntarget: work=6\n")
    (line,) = run("predict", preset, "--quiet", stdin="review\na fine film\n").stdout.splitlines()
    assert json.loads(line)["routing"]["cost"] <= 12


def test_certify_on_a_folder_that_may_not_be_written_to_is_refused_at_once(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda place, mode: access(place, mode) and Path(place) != bundle.parent
    )
    monkeypatch.setattr("adaptive.cli.labelled.load_labelled", None)  # no row is read
    result = run("certify", bundle, "test")
    assert result.exit_code == 2, result.output
    assert "may not be written to" in " ".join(result.stderr.split())


def test_certify_without_labels_serves_agreement_alone(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    before = (copy / "manifest.json").read_bytes()
    data = write_data(tmp_path / "new.csv", 60, seed=6)
    columns = ["--text", "review", "--label", ""]
    refused = run("certify", copy, data, *columns)
    assert refused.exit_code == 2 and "needs labels" in refused.stderr
    assert (copy / "manifest.json").read_bytes() == before
    result = run("certify", copy, data, *columns, "--target", "agreement=0.3", "--json")
    assert result.exit_code == 0, result.output


def test_certify_counts_repeated_rows_once_and_names_classes_without_rows(
    bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    rows = ["a fine great film,1", "A  fine great FILM ,1", "the warm clever cast,1"]
    data = tmp_path / "new.csv"
    data.write_text("review,stars\n" + "\n".join(rows * 100) + "\n")
    result = run("certify", copy, data, "--target", "agreement=0.2", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["n"], found["repeated"], found["verdict"]) == (2, 298, "NOT CERTIFIED")
    assert found["without_rows"] == ["label = bad"]
    shown = run("certify", copy, data, "--target", "agreement=0.2").stdout
    assert "298 rows repeat the text of another and do not count" in shown
    assert "no row has: label = bad" in shown


@pytest.mark.parametrize("runner", ["torch", "torch-int8", "onnxruntime-int8"])
def test_certify_serves_tiers_by_the_quickest_runner_here_if_asked(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    if why := lacking(runner, "cpu", preparing=True):
        pytest.skip(why)
    monkeypatch.setattr("adaptive.training.learn.runners.quickest", lambda took: runner)
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    data = write_data(tmp_path / "new.csv", 300, seed=6)
    how = ["--target", "agreement=0.2", "--choose-runners"]
    found = json.loads(run("certify", copy, data, *how, "--json").stdout)
    assert found["tried"] > 5
    assert found["n"] + found["known"] + found["repeated"] + found["tried"] == 300
    card = json.loads((copy / "tiers" / "full" / "tier.json").read_text())
    assert card["int8"] == ("int8" in runner) and card["graphs"] == ("onnx" in runner)
    assert f"Runner of the full tier: {runner}, the quickest on" in (copy / "README.md").read_text()
    again = AdaptivePipeline.from_config(copy)
    assert again.bundle.certificate is not None and again(["a fine great film"])[0]["label"]
    shown = run("certify", copy, data, *how)
    assert f"{found['tried']} rows chose the runners and do not count" in shown.stdout
    text = (copy / "README.md").read_text()
    assert text.count("Runner of the full tier") == 1


def test_certify_leaves_out_what_the_build_used_and_counts_requests_where_told(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    _, *old = (folder / "data.csv").read_text().splitlines()
    new = write_data(tmp_path / "new.csv", 30, seed=6).read_text().splitlines()
    data = tmp_path / "mixed.csv"
    data.write_text("\n".join([*new, *old, *new[1:]]) + "\n")
    target = ["--target", "agreement=0.2"]
    found = json.loads(run("certify", copy, data, *target, "--json").stdout)
    again = json.loads(run("certify", copy, data, *target, "--count-repeats", "--json").stdout)
    assert 300 <= found["known"] <= again["known"] <= 340  # train, fit and search
    assert found["n"] + found["known"] + found["repeated"] == 680
    assert again["n"] == 680 - again["known"] and again["repeated"] == 0
    shown = run("certify", copy, data, *target).stdout
    assert f"{found['known']:,} rows were trained, fitted or searched on" in shown
    assert f"{found['known']:,} more were left out" in (copy / "CERTIFICATE.md").read_text()


def test_looks_at_the_same_rows_are_told_by_certify_info_and_card(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_LOOKS", str(tmp_path / "looks.jsonl"))
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    data = write_data(tmp_path / "new.csv", 200, seed=8)
    for level, looks in ((0.3, 1), (0.3, 1), (0.4, 2)):
        result = run("certify", copy, data, "--target", f"agreement={level}", "--json")
        found = json.loads(result.stdout)
        assert (found["looks"], found["confidence_proved"]) == (looks, round(1 - 0.05 * looks, 9))
    facts = json.loads(run("info", copy, "--json").stdout)["certificate"]
    assert (facts["looks"], facts["confidence_proved"]) == (2, 0.9)
    assert "looks at these rows: 2; proved: 0.9" in run("info", copy).stdout
    assert "at 0.9 confidence, after 2 looks" in (copy / "README.md").read_text()
    planned = run("certify", copy, data, "--target", "agreement=0.4", "--looks", "4").stdout
    assert "looks at these rows: 2 of 4 planned" in planned


def test_certify_and_evaluate_by_group(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    data = write_data(tmp_path / "new.csv", 600, seed=7)
    columns = ["--text", "review", "--label", "stars", "--rename", "0=bad", "--rename", "1=good"]
    targets = ["--target", "agreement=0.3@source", "--target", "accuracy_drop=0.3@label"]
    result = run("certify", copy, data, *columns, *targets, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads((copy / "certificate.json").read_text())
    assert [claim["group"] for claim in content["claims"]] == ["post", "web", "bad", "good"]
    assert [claim["n"] for claim in content["claims"]] == [200, 400, 300, 300]
    assert [target["group"] for target in content["targets"]] == ["source", "label"]
    page = (copy / "CERTIFICATE.md").read_text()
    assert "in each source" in page and "| source = post | 200 |" in page
    shown = run("evaluate", copy, data, *columns, "--group", "source", "--group", "label")
    assert shown.exit_code == 0 and "source = web" in shown.stdout and "label = bad" in shown.stdout
    told = run("info", copy).stdout
    assert "agreement 0.3 in each source" in told
    fewer = write_data(tmp_path / "fewer.csv", 300, seed=8)
    lines = [line for line in fewer.read_text().splitlines() if not line.endswith("post")]
    fewer.write_text("\n".join(lines) + "\n")
    result = run("certify", copy, fewer, *columns, *targets[:2], "--json")
    assert "of source = post, there are 0" in json.loads(result.stdout)["headline"]
    wrong = run("certify", copy, data, *columns, "--target", "agreement=0.3@sauce")
    assert wrong.exit_code == 2 and "the nearest is column 3" in " ".join(wrong.stderr.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--target", "agreement=0.1@"], "expected a column of the data behind @"),
        (["--target", "speed=1"], "expected one of agreement, accuracy_drop, accuracy"),
        (["--target", "agreement"], "is no number"),
        (["--target", "text_cost=0.1"], "text_cost needs a bound above 0"),
        (["--target", "work=0"], "is no budget; expected work above 0"),
        (["--target", "milliseconds=1"], "is in milliseconds, and the costs are in layers x tok"),
        (["--target", "agreement=0.1", "--level", "2"], "--level 2: 2 is no share"),
        (["--target", "agreement=2"], "is no share"),
        (["--target", "agreement=0.1", "--confidence", "1"], "between 0 and 1"),
        (["--target", "agreement=0.1", "--confidence", "0.999999999999"], "more than 0.9999"),
    ],
)
def test_a_target_that_is_none_is_refused(bundle: Path, options: list[str], told: str) -> None:
    result = run("certify", bundle, "test", *options)
    assert result.exit_code == 2 and told in " ".join(result.stderr.split())


def test_another_device_family_needs_the_flag(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    file = copy / "certificate.json"
    content = json.loads(file.read_text())
    content["conditions"]["device"] = "cuda"
    file.write_text(json.dumps(content))
    seal(copy)
    refused = run("predict", copy, stdin="review\nfine\n")
    assert refused.exit_code == 3 and "certified for device family cuda" in refused.stderr
    opened = run("predict", copy, "--uncertified", "--quiet", stdin="review\nfine\n")
    assert opened.exit_code == 0
    assert json.loads(opened.stdout)["routing"]["covered"] is False
    assert run("info", copy).exit_code == 0
