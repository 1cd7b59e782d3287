"""Builds whose search and certification rows have no labels: few are asked for."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_builds import context_of, recipe_in, write_data, write_model
from typer.testing import CliRunner

from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.bundle.store import load_bundle
from adaptive.cli import app
from adaptive.config import Recipe
from adaptive.errors import BuildError, DataError
from adaptive.policy.lookup import Lookup, single_stage
from adaptive.policy.targets import excess
from adaptive.policy.worth import classified, reclassified
from adaptive.training.ask_labels import SAMPLE, SURE, numbered, rows_to_ask
from adaptive.training.build import build
from adaptive.training.record_outcomes import load_table
from adaptive.types import OutcomeTable, Policy, Sampled, Stage, StageCosts, Target


def pool_in(folder: Path) -> dict[str, str]:
    """Writes pool.csv, without labels; returns the label of each text."""
    labelled = write_data(folder / "labelled.csv", rows=900, seed=5)
    with labelled.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "pool.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text"])
        writer.writeheader()
        writer.writerows({"text": row["text"]} for row in rows)
    return {row["text"]: row["label"] for row in rows}


class Labeller:
    """Knows every label, and counts what it is asked."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels, self.asked = labels, list[str]()

    def __call__(self, texts: list[Any]) -> list[str | None]:
        self.asked += texts
        return [self.labels[text] for text in texts]


def recipe_with_pool(folder: Path) -> Recipe:
    data = {
        "source": str(folder / "data.csv"),
        "pool": {"source": str(folder / "pool.csv")},
        "splits": {"train": 160, "fit": 80, "test": 60, "search": 240},
    }
    return recipe_in(folder, {"data": data})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Labeller]:
    """A folder with a finished build on a pool. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("pool")
    write_model(folder / "model")
    write_data(folder / "data.csv", rows=300)
    ask = Labeller(pool_in(folder))
    build(recipe_with_pool(folder), folder / "run", quiet=True, ask=ask)
    return folder, ask


def test_search_and_certify_rows_are_of_the_pool_and_few_are_labelled(
    built: tuple[Path, Labeller],
) -> None:
    folder, ask = built
    context = context_of(recipe_with_pool(folder), folder / "run")
    figures = context.figures("data")
    assert 60 < figures["fit"] <= 80
    assert figures["search"] + figures["certify"] > 600
    searched, table = context.figures("labels"), load_table(context, "search")
    assert searched["asked"] == searched["labels"] == (table.labels >= 0).sum()
    assert table.sampled is not None
    assert table.sampled.texts == SAMPLE
    differs = (table.predictions != table.reference[:, None]) & (table.reliability >= SURE)
    assert (table.labels[differs.any(1)] >= 0).all()
    assert len(set(ask.asked)) == len(ask.asked)  # no text twice
    assert len(ask.asked) < figures["search"] + figures["certify"]


def test_the_bundle_is_certified_by_labels_that_were_asked_for(
    built: tuple[Path, Labeller],
) -> None:
    folder, ask = built
    certificate = load_bundle(folder / "bundle").certificate
    assert certificate is not None
    assert certificate.asked is not None
    assert certificate.asked.accuracy_from == "sampled rows"
    assert (
        certificate.n
        == context_of(recipe_with_pool(folder), folder / "run").figures("data")["certify"]
    )
    searched = context_of(recipe_with_pool(folder), folder / "run").figures("labels")["asked"]
    assert certificate.asked.labels >= len(ask.asked) - searched  # repeated rows are answered once


def test_a_second_build_asks_for_nothing(built: tuple[Path, Labeller]) -> None:
    folder, _ = built
    later = Labeller({})
    build(recipe_with_pool(folder), folder / "run", quiet=True, ask=later)
    assert later.asked == []


def test_a_pool_without_anybody_to_ask_is_refused_before_the_first_step(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv", rows=300)
    pool_in(tmp_path)
    with pytest.raises(BuildError, match=r"data\.pool.*--ask"):
        build(recipe_with_pool(tmp_path), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "target",
    [
        {"metric": "accuracy", "level": 0.9},
        {"metric": "accuracy_drop", "level": 0.1, "group": "label"},
    ],
)
def test_promises_that_few_labels_cannot_prove_are_refused(
    tmp_path: Path, target: dict[str, Any]
) -> None:
    values = recipe_with_pool(tmp_path).model_dump() | {"target": target}
    with pytest.raises(ValueError, match=r"data\.pool"):
        Recipe.model_validate(values)


def table_of(predictions: list[list[int]], reliability: float = 0.9) -> OutcomeTable:
    answers = np.array(predictions, np.int32)
    size, stages = answers.shape
    return classified(
        tuple(Stage(tier, 0, 0) for tier in range(stages)),
        answers,
        np.full((size, stages), reliability, np.float32),
        np.zeros((size, stages), np.float32),
        np.full(size, -1, np.int32),
        np.ones(size, np.int64),
    )


def costs() -> StageCosts:
    return StageCosts("work", np.ones((5, 2)), np.ones((5, 2)), np.ones((5, 2)), np.zeros(5))


def first_alone() -> Policy:
    return single_stage((Stage(0, 0, 0), Stage(1, 0, 0)), 0)


def test_rows_are_asked_that_a_sure_stage_answers_otherwise() -> None:
    rows = [[0, 0], [1, 0], [0, 0], [1, 0]]
    sample, asked = rows_to_ask(table_of(rows), 0, size=1)
    assert set(asked) == {1, 3, *sample}
    sample, asked = rows_to_ask(table_of(rows, 0.2), 0, size=1)
    assert set(asked) == set(sample)


def test_where_few_have_labels_a_loss_is_that_of_all_labels() -> None:
    table = table_of([[0, 0], [1, 0], [1, 0], [1, 0], [1, 1]])
    labels = np.array([0, 0, 1, 2, 0], np.int32)
    known = reclassified(table, labels=labels)
    few = reclassified(table, labels=np.array([-1, 0, 1, 2, -1], np.int32))
    asked = replace(few, sampled=Sampled(2, 5))
    target = Target("accuracy_drop", 0.1)
    result = [Lookup.of(each, costs()).evaluate(first_alone()) for each in (known, asked)]
    assert excess(target, result[1], asked).mean() == pytest.approx(
        excess(target, result[0], known).mean()
    )
    unlabelled = reclassified(
        asked, labels=np.full(5, -1, np.int32)
    )  # then each of the three is lost
    assert excess(target, result[1], unlabelled).mean() == pytest.approx(3 / 5 - 0.1 * 2 / 5)


def test_what_a_sample_said_is_kept_with_the_outcomes(tmp_path: Path) -> None:
    table = replace(table_of([[0, 0]] * 9), sampled=Sampled(7, 8))
    save_outcomes(table, tmp_path / "search.safetensors")
    assert load_outcomes(tmp_path / "search.safetensors", table.stages, "it").sampled == Sampled(
        7, 8
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [(["good"], "2 texts were asked for, 1 labels"), (["good", "odd"], "label 2 of 2")],
)
def test_labels_that_cannot_be_taken_are_told_by_place(given: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        numbered(given, ("bad", "good"), 2)
    assert numbered([None, "good"], ("bad", "good"), 2).tolist() == [-1, 1]


def test_a_build_in_turns_asks_by_a_file_and_goes_on_with_it_filled_in(
    built: tuple[Path, Labeller], tmp_path: Path
) -> None:
    folder, ask = built
    shutil.copytree(folder / "run", tmp_path / "run")
    values = recipe_with_pool(folder).model_dump(mode="json", exclude_none=True)
    recipe, todo = tmp_path / "recipe.yaml", tmp_path / "todo.csv"
    recipe.write_text(yaml.safe_dump(values | {"output": str(tmp_path / "bundle")}))
    for step in ("labels", "policy"):  # as if it had come to the first question
        shutil.rmtree(tmp_path / "run" / step)

    def run(*more: str | Path) -> dict[str, Any]:
        given = (recipe, "--workdir", tmp_path / "run", "--ask", todo, "--json", *more)
        found = CliRunner().invoke(app, ["build", *map(str, given)])
        assert found.exit_code == 0, found.output
        told: dict[str, Any] = json.loads(found.stdout)
        return told

    facts, asked = run(), list[str]()
    assert facts["asked"] >= SAMPLE
    while facts["result"] is None:
        with todo.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert set(rows[0]) == {"row", "text", "label"}  # and no tier's answer
        asked += [row["text"] for row in rows]
        with todo.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"label": ask.labels[row["text"]]} for row in rows)
        facts = run("--labels", todo)
    assert len(set(asked)) == len(asked)
    certificate = load_bundle(tmp_path / "bundle").certificate
    assert certificate is not None and certificate.asked is not None
    assert set(asked) == set(ask.asked)  # as a build that asks a function


def test_options_of_a_pool_are_refused_without_one(tmp_path: Path) -> None:
    values = recipe_in(tmp_path).model_dump(mode="json", exclude_none=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    given = ["build", str(tmp_path / "recipe.yaml"), "--ask", str(tmp_path / "todo.csv")]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 2
    assert "data.pool" in found.output
