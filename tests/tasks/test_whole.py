"""Several labels and numbers, from a recipe to answers and certificate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tasks import SCALE, build_task, task_recipe, write_rows
from typer.testing import CliRunner

import adaptive
from adaptive import AdaptivePipeline
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle
from adaptive.cli.app import app
from adaptive.engine import answer
from adaptive.errors import BundleError, TargetError
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import evaluate, single_stage
from adaptive.tasks import TASKS
from adaptive.types import Target

KINDS = ("multi_label", "regression")


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_task(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def kind(built: Path) -> str:
    return load_bundle(built / "bundle", uncertified=True).task.name


def fresh(built: Path, kind: str) -> Any:
    file = write_rows(built / "fresh.csv", kind, 200, seed=7)
    return adaptive.load_data(file, task=task_recipe(built, kind).task.model_dump())


def test_a_build_is_certified_by_betting_and_says_what_a_score_is(built: Path, kind: str) -> None:
    bundle = load_bundle(built / "bundle")
    assert bundle.task.name == kind and bundle.certificate is not None
    assert bundle.certificate.verdict == "CERTIFIED"
    assert {claim.test for claim in bundle.certificate.claims} == {"betting"}
    assert bundle.task.meaning in bundle.certificate.assumptions
    assert bundle.outcomes["certify"].classes is None
    card = (built / "bundle" / "README.md").read_text()
    assert bundle.task.quality in card and bundle.task.cascade in card
    # every tier has learnt: much better than answering the same to all
    score = bundle.outcomes["certify"].worth.score
    assert score[:, -1].mean() > 0.9 and score[:, 0].mean() > 0.75


def test_answers_have_the_shape_of_transformers(built: Path, kind: str) -> None:
    pipeline = AdaptivePipeline.from_config(built / "bundle")
    text = "a fine and dull film"
    (best,) = pipeline(text)
    (every,) = pipeline([text], top_k=None)
    assert best["label"] == every[0]["label"] and best["score"] == every[0]["score"]
    assert [each["score"] for each in every] == sorted((e["score"] for e in every), reverse=True)
    (raw,) = pipeline([text], top_k=None, function_to_apply="none")
    if kind == "regression":
        assert best["label"] == "LABEL_0" and len(every) == 1
        assert raw[0]["score"] == best["score"] == pytest.approx(2.0, abs=0.7)
        assert pipeline(text, function_to_apply="sigmoid")[0]["score"] < 1.0
    else:
        assert {each["label"] for each in every} == {"praise", "blame"}
        assert all(0.0 < each["score"] < 1.0 for each in every)
        odds = [np.log(each["score"] / (1 - each["score"])) for each in every]
        assert [each["score"] for each in raw] == pytest.approx(odds, abs=1e-3)
        assert sorted(best["routing"]["labels"]) == ["blame", "praise"]
        bundle = pipeline.bundle
        limits = dict(zip(bundle.labels, bundle.task.to_json()["thresholds"], strict=True))
        for scores in pipeline(["a story", "great", "tired and flat", text], top_k=None):
            chosen = [e["label"] for e in scores if e["score"] >= limits[e["label"]]]
            assert scores[0]["routing"]["labels"] == chosen
    with pytest.raises(ValueError, match="function_to_apply is 'softmax'"):
        pipeline(text, function_to_apply="softmax")


def test_the_engine_answers_as_the_table_says(built: Path, kind: str) -> None:
    pipeline = AdaptivePipeline.from_config(built / "bundle")
    bundle, data = pipeline.bundle, fresh(built, kind)
    tokens = pipeline.tokenize(data.texts)
    table = outcomes(bundle, tokens, data.with_labels(bundle.labels).labels, 32)
    costs = work_of(bundle.tiers, bundle.router).at(table.tokens)
    last = len(bundle.stages) - 1
    for policy in (bundle.policy, *(entry.policy for entry in bundle.ladder[:3])):
        found, told = answer(bundle, tokens, policy, 8), evaluate(policy, table, costs)
        np.testing.assert_array_equal(found.stage, told.stage)
        rows = np.arange(len(tokens))
        if policy != single_stage(bundle.stages, last):
            near = table.reliability[rows, told.stage]
            np.testing.assert_allclose(found.reliability, near, atol=2e-5)


def test_evaluate_certify_and_curve_know_the_task(built: Path, kind: str, tmp_path: Path) -> None:
    pipeline, data = AdaptivePipeline.from_config(built / "bundle"), fresh(built, kind)
    report = adaptive.evaluate(pipeline, data)
    policy, *_, full = report["rows"]
    assert report["quality"] == pipeline.bundle.task.quality
    assert policy["accuracy"] > 0.85 * full["accuracy"] > 0.7
    assert full["agreement"] == 1.0 and report["work_ratio"] >= 1.0
    points = adaptive.curve(pipeline, data, work=True)
    assert points.quality == pipeline.bundle.task.quality
    assert points.at(0.9).quality >= 0.9 * full["accuracy"]
    plain = adaptive.load_data({"train": _Frame(data.texts)})
    with pytest.raises(adaptive.DataError, match="were not read as those of"):
        adaptive.evaluate(pipeline, plain)


def test_the_same_answers_are_counted_and_have_the_exact_test(
    built: Path, kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(built / "bundle", folder)
    found = adaptive.certify(folder, fresh(built, kind), Target("agreement", 0.5, 0.9))
    assert [claim.test for claim in found.claims] == ["binomial"]
    assert found.certified and load_bundle(folder).task.meaning in found.assumptions
    with pytest.raises(TargetError, match="one class each"):
        adaptive.certify(folder, ["a film"], Target("accuracy_drop", 0.1), ask=lambda texts: texts)


class _Frame:
    """Texts with classes, as a data frame has them."""

    def __init__(self, texts: list[str]) -> None:
        self.values = {"text": texts, "label": ["x", "y"] * (len(texts) // 2)}
        self.columns = list(self.values)

    def __getitem__(self, name: str) -> list[str]:
        return self.values[name]


def test_the_command_line_predicts_and_evaluates(built: Path, kind: str) -> None:
    rows = write_rows(built / "rows.csv", kind, 40, seed=3)
    run = CliRunner().invoke(app, ["--json", "evaluate", str(built / "bundle"), str(rows)])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["rows"][-1]["agreement"] == 1.0
    out = built / "answers.jsonl"
    command = ["predict", str(built / "bundle"), str(rows), "--output", str(out)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(answers) == 40 and all("score" in each for each in answers)
    own = CliRunner().invoke(app, ["--json", "evaluate", str(built / "bundle"), "test"])
    assert own.exit_code == 0, own.output


def test_what_belongs_to_the_task_is_bound_to_the_certificate(
    built: Path, kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(built / "bundle", folder)
    told = json.loads((folder / "task.json").read_text())
    changed = {"thresholds": [0.3, 0.3]} if kind == "multi_label" else {"tolerance": 1.0}
    (folder / "task.json").write_text(json.dumps(told | changed))
    (folder / "manifest.json").unlink()
    seal(folder)
    with pytest.raises(BundleError, match=r"task\.json"):
        load_bundle(folder)
    (folder / "task.json").write_text(json.dumps(told | {"threshold": 2, "scale": [1, 0]}))
    (folder / "manifest.json").unlink()
    seal(folder)
    with pytest.raises(BundleError, match=r"task\.json"):
        load_bundle(folder, uncertified=True)
    (folder / "task.json").unlink()
    (folder / "manifest.json").unlink()
    seal(folder)
    with pytest.raises(BundleError, match=r"task\.json: the file is missing"):
        load_bundle(folder, uncertified=True)


def test_words_of_an_explanation_tell_the_answer(built: Path, kind: str) -> None:
    told = str(AdaptivePipeline.from_config(built / "bundle").explain("a fine and dull film"))
    assert ("blame, praise" if kind == "multi_label" else "answer '") in told
    assert "%" not in told.splitlines()[-1] and TASKS[kind]


def test_the_scale_of_a_number_is_that_of_the_labels(built: Path, kind: str) -> None:
    if kind == "regression":
        pipeline = AdaptivePipeline.from_config(built / "bundle")
        low, high = pipeline(["dull and poor a film", "great and fine a film"])
        assert SCALE[0] - 1 < low["score"] < 1.5 < 2.5 < high["score"] < SCALE[1] + 1


def test_windows_of_a_long_text_are_averaged(built: Path, kind: str) -> None:
    pipeline = AdaptivePipeline.from_config(built / "bundle")
    long = "fine film and a plot " * 8
    (every,) = pipeline([long], top_k=None, truncation="windows")
    assert every[0]["routing"]["windows"] > 1
    assert all(np.isfinite(each["score"]) for each in every)
    assert ("labels" in every[0]["routing"]) == (kind == "multi_label")


def test_a_server_gives_what_the_pipeline_answers(built: Path, kind: str) -> None:
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from tiny_server import Served, run

    bundle = load_bundle(built / "bundle")
    texts = ["a fine and dull film", "great story"]
    expected = AdaptivePipeline(bundle)(texts, top_k=None)

    async def work(server: Served) -> None:
        got = (await server.post("/", {"inputs": texts})).json()
        for own, other in zip(got, expected, strict=True):
            assert [each["label"] for each in own] == [each["label"] for each in other]
            scores = [each["score"] for each in other]
            assert [each["score"] for each in own] == pytest.approx(scores, abs=1e-5)
            assert own[0]["routing"].get("labels") == other[0]["routing"].get("labels")
        named = {"inputs": texts[0], "parameters": {"function_to_apply": "sigmoid"}}
        assert (await server.post("/", named)).status_code == 200
        named["parameters"]["function_to_apply"] = "softmax"
        assert (await server.post("/", named)).status_code == 422

    run(bundle, work, audit={"share": 0.5})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_tiers_in_int8_and_in_onnx_runtime_answer_other_tasks_too(
    tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("onnxruntime")
    changes = {"quantise": {"tiers": ["full"]}, "export": {"tiers": ["full"]}}
    bundle = load_bundle(build_task(tmp_path, kind, changes) / "bundle")
    assert not bundle.outcomes["certify"].worth.own and bundle.tiers[-1].in_graphs
    assert bundle.certificate is not None and bundle.certificate.certified
    assert AdaptivePipeline(bundle)("a fine film")[0]["score"] > 0.5
