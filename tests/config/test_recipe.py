"""Recipes and presets: every fault at once, with its path and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adaptive.bundle.policies import targets_from_json
from adaptive.config import BagConfig, TransformerConfig, load_preset, load_recipe
from adaptive.config.targets import read_target, show_target
from adaptive.errors import ConfigError
from adaptive.types import Target

BASE: dict[str, Any] = {
    "name": "demo",
    "output": "out",
    "model": {"id": "some/model"},
    "data": {"source": "x.csv"},
}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def faults_of(source: Mapping[str, Any] | Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(source, overrides)
    return caught.value.faults


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("recipes/*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid_and_start_with_their_command(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    first = path.read_text().splitlines()[0]
    assert first == f"# adaptive build configs/recipes/{path.name}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("presets/*.yaml")), ids=lambda p: p.stem)
def test_shipped_presets_are_valid_and_start_with_their_command(path: Path) -> None:
    load_preset(path)
    first = path.read_text().splitlines()[0]
    assert first.startswith("#") and f"adaptive predict configs/presets/{path.name}" in first


def test_there_are_shipped_configurations() -> None:
    assert {"rotten_tomatoes", "imdb"} <= {path.stem for path in CONFIGS.glob("recipes/*.yaml")}
    assert (CONFIGS / "presets" / "default.yaml").is_file()


def test_every_fault_is_listed_with_its_path_line_and_hint(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "name: a b\n"
        "modle: {id: x}\n"
        "data: {source: x, splits: {train: 1.5}, unlabelled: [{source: y, limt: 3}]}\n"
        "full: {epochs: 1.5, tune: loraa, learning_rate: -1}\n"
        "tiny: {kind: bag, widht: 64}\n"
        "mid: {layers: yes}\n"
    )
    faults = "\n".join(faults_of(path))
    assert "name (line 1)" in faults
    assert "modle (line 2): unknown key, did you mean 'model'?" in faults
    assert "model: missing" in faults
    assert "output: missing" in faults
    assert "data.splits.train (line 3)" in faults
    assert "data.unlabelled.0.limt (line 3): unknown key, did you mean 'limit'?" in faults
    assert "full.epochs (line 4)" in faults
    assert "full.learning_rate (line 4)" in faults
    assert "full.tune (line 4)" in faults and "did you mean 'lora'?" in faults
    assert "tiny.widht (line 5): unknown key, did you mean 'width'?" in faults
    assert "mid.layers (line 6)" in faults
    assert len(faults.splitlines()) == 11


@pytest.mark.parametrize("name", ["工单", "-x", "a b", "tickets\n"])
def test_a_name_that_folders_cannot_have_everywhere_is_told_in_words(name: str) -> None:
    with pytest.raises(ConfigError, match="expected letters a to z, digits"):
        load_recipe({"name": name, "model": {"id": "m"}, "data": {"source": "d.csv"}})


def test_labels_that_yaml_turned_into_something_else_must_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(
        "name: demo\noutput: out\nmodel: {id: x}\ndata:\n  source: x\n  rename:\n"
        "    no: negative\n    12: b\n    ~: c\n    2020-01-01: d\n    x: off\n    y: 1.0\n"
        "  where: {lang: on}\n"
    )
    faults = faults_of(path)
    assert len(faults) == 7
    for place, quoted in [
        ("data.rename.no (line 7)", '"no"'),
        ("data.rename.12 (line 8)", '"12"'),
        ("data.rename.~ (line 9)", '"~"'),
        ("data.rename.2020-01-01 (line 10)", '"2020-01-01"'),
        ("data.rename.x (line 11)", '"off"'),
        ("data.rename.y (line 12)", '"1.0"'),
        ("data.where.lang (line 13)", '"on"'),
    ]:
        (fault,) = [each for each in faults if each.startswith(place)]
        assert f"write it in quotes: {quoted}" in fault


def test_quoted_labels_pass_and_keep_their_order() -> None:
    recipe = load_recipe(BASE, ["data.rename={'1': 'yes', '0': 'no'}"])
    assert list(recipe.data.rename.items()) == [("1", "yes"), ("0", "no")]


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", ".001", "+1E-03"])
def test_float_fields_take_numbers_that_yaml_leaves_as_text(text: str) -> None:
    assert load_recipe(BASE, [f"full.learning_rate={text}"]).full.learning_rate == 0.001


@pytest.mark.parametrize("text", ["yes", "nan", ".inf", "fast", "0", "null", "1e", "[1]"])
def test_float_fields_refuse_what_is_no_number(text: str) -> None:
    (fault,) = faults_of(BASE, f"full.learning_rate={text}")
    assert fault.startswith("full.learning_rate")


@pytest.mark.parametrize("text", ["yes", "1.0", "'3'", "0", "1e3"])
def test_whole_number_fields_are_strict(text: str) -> None:
    (fault,) = faults_of(BASE, f"full.epochs={text}")
    assert fault.startswith("full.epochs")


def test_split_sizes_are_rows_or_shares() -> None:
    splits = load_recipe(BASE, ["data.splits={train: 100, fit: 0.5, test: 5e-1}"]).data.splits
    assert (splits.train, splits.fit, splits.search, splits.test) == (100, 0.5, None, 0.5)
    for value in ("0", "1.0", "-3", "yes", "1.5"):
        (fault,) = faults_of(BASE, f"data.splits.fit={value}")
        assert fault.startswith("data.splits.fit")
    (fault,) = faults_of(BASE, "data.splits={train: 0.9, test: 0.2}")
    assert "add up to 1.1" in fault


def test_tiny_is_chosen_by_kind() -> None:
    assert load_recipe(BASE).tiny is None
    assert isinstance(load_recipe(BASE, ["tiny.kind=bag"]).tiny, BagConfig)
    tiny = load_recipe(BASE, ["tiny={kind: transformer, layers: 1}"]).tiny
    assert isinstance(tiny, TransformerConfig) and tiny.layers == 1
    assert "did you mean 'bag'?" in faults_of(BASE, "tiny.kind=bagg")[0]
    assert "'kind' is missing" in faults_of(BASE, "tiny={width: 3}")[0]
    (fault,) = faults_of(BASE, "tiny={kind: transformer, layrs: 3}")
    assert fault == "tiny.layrs: unknown key, did you mean 'layers'?"


def test_exits_fit_their_tier_and_the_first_tier_has_the_anchor() -> None:
    assert load_recipe(BASE, ["full.exits=[0, 3]"]).full.exits == (0, 3)
    assert "ascend" in faults_of(BASE, "full.exits=[0, 3, 3]")[0]
    assert faults_of(BASE, "full.exits=[1]")[0].startswith("full.exits: the first tier needs")
    load_recipe(BASE, ["full.exits=[1]", "tiny.kind=bag"])
    load_recipe(BASE, ["full.exits=[1]", "mid.layers=2"])
    (fault,) = faults_of(BASE, "mid={layers: 2, exits: [0, 3]}")
    assert fault == "mid.exits: depth 3 is behind the last layer, 2"


def test_cost_lengths_are_two_or_more_and_ascend() -> None:
    assert load_recipe(BASE, ["cost.lengths=[4, 9]"]).cost.lengths == (4, 9)
    for lengths in ("[8]", "[8, 8]", "[16, 8]", "[0, 8]", "8"):
        assert faults_of(BASE, f"cost.lengths={lengths}")[0].startswith("cost.lengths")


def test_unlabelled_data_allows_agreement_only() -> None:
    faults = faults_of(BASE, "data.label=null")
    assert [fault.partition(":")[0] for fault in faults] == ["target.metric", "full.tune"]
    load_recipe(BASE, ["data.label=null", "target.metric=agreement", "full.tune=none"])


def test_unlabelled_sources_have_no_label_column() -> None:
    recipe = load_recipe(BASE, ["data.unlabelled=[{source: y.csv, text: body}]"])
    (source,) = recipe.data.unlabelled
    assert (source.source, source.text, source.label) == ("y.csv", "body", None)
    (fault,) = faults_of(BASE, "data.unlabelled=[{source: y.csv, label: z}]")
    assert "no use for label" in fault


def test_the_target_becomes_the_ground_type() -> None:
    recipe = load_recipe(BASE, ["target={metric: agreement, level: 5e-2, confidence: 0.9}"])
    assert recipe.target.target() == Target("agreement", 0.05, 0.9)


def test_targets_may_be_several_and_hold_in_every_group() -> None:
    both = "target=[{metric: agreement, level: 0.05, group: region}, {level: 0.01, group: label}]"
    recipe = load_recipe(BASE, [both])
    assert recipe.targets == (
        Target("agreement", 0.05, 0.95, "region"),
        Target("accuracy_drop", 0.01, 0.95, "label"),
    )
    assert recipe.columns == ("label", "region")
    assert load_recipe(recipe.model_dump(mode="json")) == recipe
    assert load_recipe(BASE).targets == (Target("accuracy_drop", 0.01),)
    assert load_recipe(BASE).columns == ()


def test_targets_that_are_wrong_are_told_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    text = "name: demo\noutput: out\nmodel: {id: x}\ndata: {source: x}\ntarget:"
    path.write_text(f"{text}\n- {{level: 2}}\n- {{metrik: agreement}}\n")
    faults = faults_of(path)
    assert faults[0].startswith("target.0.level (line 6)")
    assert faults[1] == "target.1.metrik (line 7): unknown key, did you mean 'metric'?"
    path.write_text(f"{text} {{level: 2}}\n")
    assert faults_of(path)[0].startswith("target.level (line 5)")
    assert "at least 1" in faults_of(BASE, "target=[]")[0]
    (fault,) = faults_of(BASE, "target=[{level: 0.1, confidence: 0.9}, {level: 0.2}]")
    assert fault == (
        "target: targets that must hold together share one confidence, found 0.9 and 0.95"
    )
    faults = faults_of(BASE, "data.label=null", "full.tune=none", "target=[{group: label}]")
    assert [fault.partition(":")[0] for fault in faults] == ["target.0.metric", "target.0.group"]


def test_abstention_is_a_target_beside_others() -> None:
    recipe = load_recipe(BASE, ["target=[{level: 0.02}, {metric: abstention, level: 0.1}]"])
    assert recipe.abstains and not load_recipe(BASE).abstains
    (fault,) = faults_of(BASE, "target={metric: abstention, level: 0.1}")
    assert fault.startswith("target: abstention comes behind")


def test_costs_are_targets_in_the_unit_that_is_minimised() -> None:
    target = load_recipe(BASE, ["target={metric: milliseconds, level: 2.5}"]).targets[0]
    assert target == Target("milliseconds", 2.5)
    target = load_recipe(BASE, ["target={metric: text_cost, level: 0.05, bound: 4}"]).targets[0]
    assert target == Target("text_cost", 0.05, bound=4.0)


def preset_target(target: Any) -> dict[str, Any]:
    chosen = load_preset({"bundle": "x", "target": target}).target
    assert chosen is not None
    return chosen.model_dump(exclude_none=True)


def test_the_former_name_of_a_metric_is_read_with_a_note() -> None:
    expected = Target("text_cost", 0.05, bound=4.0)
    for read in (
        lambda: load_recipe(BASE, ["target={metric: latency, level: 0.05, bound: 4}"]).targets[0],
        lambda: Target(**read_target("latency=0.05:4")),
        lambda: targets_from_json([asdict(expected) | {"metric": "latency"}], "x")[0],
        lambda: Target(**preset_target({"metric": "latency", "level": 0.05, "bound": 4})),
        lambda: Target(**preset_target("latency=0.05:4")),
        lambda: Target("latency", 0.05, bound=4.0),  # type: ignore[arg-type]
    ):
        with pytest.warns(FutureWarning, match="'latency' is called 'text_cost' now"):
            assert read() == expected
    counted = ["target={metric: work, level: 30}", "search.minimise=work", "data.label=null"]
    assert load_recipe(BASE, [*counted, "full.tune=none"]).targets == (Target("work", 30.0),)
    for wrong, told in (
        ("{metric: work, level: 30}", "target.metric: work needs costs in work, and search.mini"),
        ("{metric: milliseconds}", "target.level: a budget has to be named, in milliseconds"),
        ("{metric: milliseconds, level: 0}", "target.level: 0 is no budget; expected milliseconds"),
        ("{metric: text_cost}", "target.bound: text_cost needs a bound above 0, in milliseconds"),
        ("{metric: text_cost, level: 2, bound: 1}", "target.level: 2 is no share"),
        ("{metric: agreement, bound: 1}", "target.bound: agreement takes no bound; text_cost does"),
    ):
        (fault,) = faults_of(BASE, f"target={wrong}")
        assert fault.startswith(told), fault
    budget = "target={metric: milliseconds, level: 2.5}"
    assert load_recipe(BASE, [budget, "certificate.levels=[1.5, 4]"]).levels == (1.5, 4.0)
    (fault,) = faults_of(BASE, budget, "certificate.levels=[0]")
    assert fault.startswith("certificate.levels: 0 is no budget")


@pytest.mark.parametrize(
    "target",
    [
        Target("agreement", 0.02),
        Target("milliseconds", 2.5, group="label"),
        Target("text_cost", 0.05, group="region", bound=4.0),
    ],
)
def test_a_target_is_read_as_it_is_shown(target: Target) -> None:
    assert Target(**read_target(show_target(target))) == target


def test_further_levels_are_different_and_not_the_targets_own() -> None:
    recipe = load_recipe(BASE, ["certificate.levels=[0.005, 2e-2]"])
    assert recipe.levels == (0.005, 0.02)
    assert load_recipe(BASE, ["certificate=null"]).levels == ()
    assert "stands twice" in faults_of(BASE, "certificate.levels=[0.02, 0.02]")[0]
    (fault,) = faults_of(BASE, "certificate.levels=[0.005, 0.01]")
    assert fault.startswith("certificate.levels: 0.01 is the target's own")
    (fault,) = faults_of(BASE, "certificate.levels=[2]")
    assert fault == "certificate.levels: 2 is no share; expected a number from 0 to 1"


def test_recipes_are_frozen_and_leave_the_callers_mapping_alone() -> None:
    recipe = load_recipe(BASE, ["data.limit=5"])
    assert "limit" not in BASE["data"]
    with pytest.raises(ValidationError):
        recipe.seed = 3


def test_a_recipe_survives_its_own_json() -> None:
    recipe = load_recipe(CONFIGS / "recipes" / "rotten_tomatoes.yaml")
    assert load_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_document_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="a recipe is a mapping"):
        load_recipe(path)


def test_presets_know_their_devices() -> None:
    assert load_preset({"bundle": "b", "device": "cuda:1"}).device == "cuda:1"
    for device in ("gpu", "cuda:", "cuda:x", ""):
        with pytest.raises(ConfigError, match="device"):
            load_preset({"bundle": "b", "device": device})


def test_preset_faults_have_hints() -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset({"bundel": "b", "overflow": "window"})
    assert any("did you mean 'bundle'?" in fault for fault in caught.value.faults)
    assert any("did you mean 'windows'?" in fault for fault in caught.value.faults)


def test_presets_name_a_target_in_either_form() -> None:
    for target in ("accuracy_drop=0.02@region", {"metric": "accuracy_drop", "level": 0.02} |
                   {"group": "region"}):  # fmt: skip
        found = load_preset({"bundle": "b", "target": target}).target
        assert found is not None and found.confidence is None
        assert (found.metric, found.level, found.group) == ("accuracy_drop", 0.02, "region")
    for target in ("speed=1", "agreement=2", "agreement", {"metric": "agreement"}, 3):
        with pytest.raises(ConfigError, match="target"):
            load_preset({"bundle": "b", "target": target})


def test_a_confidence_that_no_memory_would_hold_is_refused() -> None:
    (fault,) = faults_of(BASE, "target={confidence: 0.999999}")
    assert "a confidence of 0.999999 is more than 0.9999: the exact tests would need" in fault
    assert load_recipe(BASE, ["target={confidence: 0.9999}"]).targets[0].confidence == 0.9999
    (fault,) = faults_of(BASE, "target={confidence: 1}")
    assert "expected a number between 0 and 1" in fault
    kept = load_preset({"bundle": "x", "target": {"metric": "agreement", "level": 0.1}})
    assert kept.target is not None and kept.target.confidence is None
