"""What goes with a task in a recipe, and checkpoints that are taken as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_builds import WORDS, recipe_in, write_model
from tiny_tasks import TASKS, build_task, task_recipe, write_rows
from transformers import pipeline as transformers_pipeline

from adaptive import AdaptivePipeline
from adaptive.bundle.store import load_bundle
from adaptive.errors import BuildError, DataError
from adaptive.policy.lookup import tier_alone
from adaptive.training.build import build, check
from adaptive.training.data import from_memory

MULTI, NUMBER = TASKS["multi_label"], TASKS["regression"]
AS_IT_IS: dict[str, Any] = {"full": {"tune": "none"}}


def test_one_class_a_text_is_what_a_recipe_means_without_a_word(tmp_path: Path) -> None:
    assert recipe_in(tmp_path).task.kind == "single_label"
    assert recipe_in(tmp_path, {"task": "multi_label", "target": {"metric": "agreement"}}).task


def test_a_target_without_a_metric_is_about_scores_where_losses_are_graded(tmp_path: Path) -> None:
    values = recipe_in(tmp_path).model_dump(mode="json")
    for target in (None, {"level": 0.02}):
        for task, metric in (
            (MULTI, "score_drop"),
            ("multi_label", "score_drop"),
            (NUMBER, "score_drop"),
            ({**MULTI, "loss": "subset"}, "accuracy_drop"),
            ("single_label", "accuracy_drop"),
        ):
            given = {**values, "task": task, "target": target}
            if target is None:
                del given["target"]
            (found,) = type(recipe_in(tmp_path)).model_validate(given).targets
            assert found.metric == metric


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": MULTI}, "accuracy_drop is about right and wrong answers.*use score_drop"),
        ({"task": NUMBER, "target": {"metric": "accuracy"}}, "use score"),
        ({"task": MULTI, "target": {"metric": "agreement", "group": "label"}}, "not of one class"),
        ({"task": MULTI, "search": {"losses": "auto"}}, "auto losses are those of exclusive"),
        ({"task": NUMBER, "data": {"rename": {"1": "one"}}}, "numbers without names"),
        ({"task": MULTI, "data": {"pool": {"source": "p.csv"}}}, "are not asked for"),
        ({"task": {"kind": "regression"}}, "scale"),
        ({"task": {**NUMBER, "scale": [3, 1]}}, "the scale must ascend, found 3 to 1"),
        ({"task": {**NUMBER, "tolerance": 4}}, "all answers would be the same"),
        ({"task": {**MULTI, "separator": "::"}}, "separator"),
        ({"task": "tokens"}, "single_label"),
    ],
)
def test_what_does_not_go_with_a_task_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        recipe_in(tmp_path, changes)


@pytest.mark.parametrize(
    ("kind", "problem", "labels", "told"),
    [
        ("multi_label", None, ("blame", "praise"), "chooses one of 2 classes"),
        ("multi_label", "regression", ("blame", "praise"), "gives numbers and no classes"),
        ("regression", None, ("blame", "praise"), "chooses one of 2 classes"),
        ("regression", "regression", ("a", "b", "c"), "its head gives 3 numbers"),
        ("regression", "multi_label_classification", ("a", "b"), "several labels"),
    ],
)
def test_a_checkpoint_of_another_problem_is_refused_by_name(
    tmp_path: Path, kind: str, problem: str | None, labels: tuple[str, ...], told: str
) -> None:
    write_model(tmp_path / "model", labels=labels, problem_type=problem)
    write_rows(tmp_path / "data.csv", kind)
    with pytest.raises(BuildError, match=told) as caught:
        check(task_recipe(tmp_path, kind, AS_IT_IS), tmp_path / "run")
    assert f"the recipe's task.kind, {kind}" in str(caught.value)


def test_labels_in_memory_must_be_those_of_the_task(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    data = from_memory([f"film {word}" for word in WORDS], [str(i % 2) for i in range(len(WORDS))])
    with pytest.raises(DataError, match="not read as those of a multi_label task"):
        build(task_recipe(tmp_path, "multi_label"), tmp_path / "run", data=data, quiet=True)


HEADS = {"multi_label": ("praise", "blame"), "regression": ("LABEL_0",)}


@pytest.mark.parametrize("label", ["label", None])
@pytest.mark.parametrize("kind", list(TASKS))
def test_a_checkpoint_as_it_is_answers_as_transformers_own_pipeline(
    tmp_path: Path, kind: str, label: str | None
) -> None:
    problem = {"multi_label": "multi_label_classification"}.get(kind, kind)
    changes = {
        **AS_IT_IS,
        "exits": {"epochs": 1},
        "target": {"metric": "agreement", "level": 0.5, "confidence": 0.5},
        "router": {"candidates": []},
        "data": {"label": label},
    }
    model = write_model(tmp_path / "model", labels=HEADS[kind], problem_type=problem)
    build_task(tmp_path, kind, changes, make_model=False)
    bundle = load_bundle(tmp_path / "bundle", uncertified=True)
    bundle = replace(bundle, policy=tier_alone(bundle.stages, len(bundle.tiers) - 1))
    texts = ["a fine film", "the plot and the cast", "dull and very tired story"]
    ours, heat = AdaptivePipeline(bundle), float(bundle.reliability.temperature[-1])
    theirs = transformers_pipeline("text-classification", str(model), tokenizer=str(model))
    for options in ({}, {"top_k": None}, {"top_k": 1}):
        raw = {**options, "function_to_apply": "none"}
        for own, other in zip(ours(texts, **raw), theirs(texts, **raw), strict=True):
            pairs = [(own, other)] if isinstance(own, dict) else zip(own, other, strict=True)
            for mine, their in pairs:
                assert mine["label"] == their["label"]
                assert mine["score"] * heat == pytest.approx(their["score"], abs=2e-4)
        shape = [type(each) for each in theirs(texts, **options)]
        assert [type(each) for each in ours(texts, **options)] == shape
    if kind == "regression":  # which is given as it is, by both
        assert heat == 1.0
        for own, other in zip(ours(texts), theirs(texts), strict=True):
            assert own["score"] == pytest.approx(other["score"], abs=2e-4)
    saved = transformers_pipeline(
        "text-classification",
        str(tmp_path / "bundle" / "tiers" / "full"),
        tokenizer=str(model),
    )
    assert saved.model.config.problem_type == problem
