"""The certificate's benchmark: its figures are those of the rows it names, whatever the verdict."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_builds import recipe_in, write_data, write_model
from tiny_population import COSTS, Population

from adaptive.bundle.store import load_bundle
from adaptive.config.recipe import Recipe
from adaptive.config.steps import SearchConfig
from adaptive.pipeline import AdaptivePipeline
from adaptive.training.build import build
from adaptive.training.data import Dataset, from_memory, load_data
from adaptive.training.prepare import load_splits
from adaptive.training.splits import PARTS, fold
from adaptive.types import OutcomeTable, Target

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import certificate as benchmark
import certificate_errors
import certificate_rows

Built = tuple[Recipe, Dataset, Path]


def built(folder: Path, changes: dict[str, Any]) -> Built:
    """A bundle in milliseconds, from files of train, validation and test rows."""
    source = folder / "data"
    source.mkdir()
    sizes = {"train": 500, "validation": 60, "test": 80}
    for seed, (name, rows) in enumerate(sizes.items()):
        write_data(source / f"{name}.csv", rows, seed)
    write_model(folder / "model")
    splits = {"train": None, "test": None, "from_train": 340}
    recipe = recipe_in(
        folder,
        {
            "data": {"source": str(source), "splits": splits | changes},
            "search": {"minimise": "milliseconds", "sweeps": 1},
            "target": {"metric": "accuracy_drop", "level": 0.1},
        },
    )
    data = load_data(recipe.data, recipe.seed)
    build(recipe, folder / "run", quiet=True, data=data)
    return recipe, data, folder / "run"


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """With rows left over."""
    return built(tmp_path_factory.mktemp("roomy"), {"fit": 60, "search": 80, "certify": 160})


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """With too few to certify on, and none left over."""
    sizes = {"from_train": 120, "fit": None, "search": 100, "certify": 8}
    return built(tmp_path_factory.mktemp("scarce"), sizes)


@pytest.fixture(scope="module")
def roomy_record(roomy: Built) -> dict[str, Any]:
    return recorded(roomy)


def recorded(build: Built) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "RESPLITS", 2)
        return benchmark.run(*build)


def test_a_certified_build_is_judged_on_rows_that_no_step_has_used(
    roomy_record: dict[str, Any],
) -> None:
    found = roomy_record
    # which of the cheap policies is served hangs on measured times
    assert found["verdict"] in ("CERTIFIED", "DO NOT ROUTE")
    assert (found["n_certify"], found["delta"]) == (160, 0.05)
    assert found["judged_on"] == "unused" and found["texts"] == found["rows"]["unused"] > 50
    assert found["shifted_test"]["texts"] == 80
    assert found["front"]["certified"] > 1 and found["rows_needed"] is None
    assert sum(found["over_splits"]["verdicts"].values()) == 2
    assert found["work_ratio"] > 1 and found["by_cost_table"]["unit"] == "milliseconds"
    for each in (found, found["by_cost_table"]):
        price = each["time_ratio_oracle"] / each["time_ratio_certified"] - 1
        assert each["price_of_certificate"] == pytest.approx(price)
    assert found["by_cost_table"]["time_ratio_certified"] > 1


def test_risk_is_what_the_pipeline_loses_on_the_test_file(
    roomy: Built, roomy_record: dict[str, Any]
) -> None:
    (recipe, data, _), found = roomy, roomy_record["shifted_test"]
    pipeline = AdaptivePipeline.from_config(recipe.output)
    rows = np.flatnonzero(data.split == "test")
    texts, labels = [data.texts[row] for row in rows], data.labels[rows]

    def right() -> np.ndarray:
        answers = [data.label_names.index(each["label"]) for each in pipeline(texts)]
        return np.array(answers) == labels

    policy = right()
    pipeline.policy = pipeline.bundle.ladder[0].policy  # the full tier alone
    full = right()
    assert found["accuracy_policy"] == pytest.approx(policy.mean())
    assert found["accuracy_full"] == pytest.approx(full.mean())
    assert found["risk_on_test"] == pytest.approx((full.mean() - policy.mean()) / full.mean())


def test_the_standard_error_of_the_drop_is_that_of_many_draws() -> None:
    people, rng = Population(worse=0.05, better=0.02), np.random.default_rng(0)
    tables = [people.draw(1000, rng) for _ in range(400)]
    found = [benchmark.risk(table, table.predictions[:, 0]) for table in tables]
    drops = [each["risk_on_test"] for each in found]
    assert np.mean(drops) == pytest.approx(0.03 / 0.9, rel=0.05)
    errors = [each["risk_error"] for each in found]
    assert np.mean(errors) == pytest.approx(np.std(drops), rel=0.1)


def test_rows_left_over_stand_in_no_split_and_were_not_learnt_from(roomy: Built) -> None:
    recipe, data, _ = roomy
    bundle, splits = load_bundle(recipe.output), load_splits(recipe, data)[1]
    tokens, labels = certificate_rows.unused(recipe, data, bundle)
    learnt = {fold(data.texts[row]) for part in PARTS[:3] for row in getattr(splits, part)}
    left = [fold(data.texts[row]) for row in splits.unused]
    assert len(tokens) == len(labels) == sum(text not in learnt for text in left)
    texts = [
        fold(bundle.tokenizer.decode(row, skip_special_tokens=True))
        for row in np.split(tokens.ids, tokens.offsets[1:-1])
    ]
    assert not learnt & set(texts)


def test_a_verdict_of_too_few_rows_tells_how_many_and_saves_nothing(scarce: Built) -> None:
    found = recorded(scarce)
    assert found["verdict"] == "NOT CERTIFIED" and found["n_certify"] == 8
    assert found["rows_needed"] > 8
    assert found["judged_on"] == "test" and "shifted_test" not in found
    assert found["risk_on_test"] == 0.0 and found["work_ratio"] == 1.0
    for each in (found, found["by_cost_table"]):
        assert each["time_ratio_certified"] == 1.0
    table = found["by_cost_table"]
    assert table["price_of_certificate"] == pytest.approx(table["time_ratio_oracle"] - 1)
    assert table["time_ratio_oracle"] > 1


@pytest.mark.slow
def test_every_metric_and_test_is_counted_and_none_is_wrong_too_often() -> None:
    counts = certificate_errors.known_risks(30)
    assert {count["what"].partition(":")[0].split()[0] for count in counts} == {
        "agreement",
        "accuracy",
        "accuracy_drop",
        "milliseconds",
        "text_cost",
    }
    assert all(0 <= count["wrong"] <= count["allowed"] for count in counts)
    assert any(count["wrong"] for count in counts)
    told = " ".join(count["what"] for count in counts)
    for name in ("betting", "binomial", "hoeffding", "groups", "search"):
        assert name in told


def split_again(pool: OutcomeTable, target: Target) -> dict[str, Any]:
    return certificate_errors.splits(
        certificate_rows.Pool(pool),
        COSTS,
        (target,),
        SearchConfig(sweeps=1, margin=1.0),
        routed=False,
        draws=40,
        sizes=(150, 300),
    )


def test_splits_of_a_pool_rarely_break_the_level_on_their_rests() -> None:
    people = Population()
    pool = people.draw(3000, np.random.default_rng(0))
    count = split_again(pool, people.target("accuracy_drop", 0.5, 0.95))
    assert count["draws"] == 40 and count["wrong"] <= count["allowed"]
    assert count["verdicts"]["CERTIFIED"] > 10 and count["cost_ratio"]["95%"] > 1.0
    assert count["excess_on_the_rest"]["50%"] < 0.0


def test_splits_of_a_pool_show_a_certificate_that_means_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the search believed is called certified: about half of it is wrong."""
    people, real = Population(), certificate_errors.certify

    def blind(front: Any, *given: Any, **named: Any) -> Any:
        found = real(front, *given, **named)
        return replace(found, certified=len(front), policy=front[-1])

    monkeypatch.setattr(certificate_errors, "certify", blind)
    pool = people.draw(3000, np.random.default_rng(0))
    count = split_again(pool, people.target("accuracy_drop", 0.5, 0.95))
    assert count["wrong"] > count["allowed"] and count["wrong_of_any_certified"] >= count["wrong"]


def test_rows_held_out_are_those_that_the_record_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bits = np.array([0, 1, 0, 1, 1, 0], dtype=np.bool_)  # the last is a test row
    told = {"some": {"rows": 6, "bits": base64.b64encode(np.packbits(bits).tobytes()).decode()}}
    (tmp_path / "held_out.json").write_text(json.dumps(told), encoding="utf-8")
    monkeypatch.setattr(certificate_rows, "HELD_OUT", tmp_path / "held_out.json")
    data = from_memory([f"text {row}" for row in range(6)], ["a", "b"] * 3)
    split = np.array(["train", "train", "validation", "validation", "train", "test"])
    found = certificate_rows.held_out("some", replace(data, split=split))
    assert found.split is not None
    assert found.split.tolist() == [
        "train", "validation", "train", "validation", "validation", "test",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected 6 rows, found 2"):
        certificate_rows.held_out("some", replace(data, split=split).take(np.arange(2)))
