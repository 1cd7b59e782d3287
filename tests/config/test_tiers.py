"""Recipes list their tiers; sections of former recipes are read as such a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from adaptive.cli import app
from adaptive.config import load_recipe
from adaptive.config.tiers import own_options, upgraded
from adaptive.errors import ConfigError

BASE: dict[str, Any] = {
    "name": "b",
    "output": "o",
    "model": {"id": "org/model"},
    "data": {"source": "org/data"},
}
SECTIONS = BASE | {
    "full": {"tune": "none", "exits": [2, 4]},
    "tiny": {"kind": "bag", "bigrams": 64},
    "mid": {"layers": 2, "heads": 0.5},
    "quantise": {"tiers": ["mid"]},
    "export": {"tiers": ["mid", "full"]},
}
TIERS = [
    {"name": "tiny", "kind": "bag", "bigrams": 64},
    {"name": "mid", "kind": "pruned", "layers": 2, "heads": 0.5, "serve": "onnxruntime-int8"},
    {"name": "full", "kind": "checkpoint", "tune": "none", "exits": [2, 4], "serve": "onnxruntime"},
]


def faults(tiers: Any, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(BASE | {"tiers": tiers} | more)
    return list(caught.value.faults)


def test_sections_and_list_say_the_same() -> None:
    old, new = load_recipe(SECTIONS), load_recipe(BASE | {"tiers": TIERS})
    assert (old.small, old.last) == (new.small, new.last)
    assert (old.int8, old.exported) == (new.int8, new.exported) == (("mid",), ("mid", "full"))


def test_sections_are_written_as_the_list() -> None:
    assert upgraded(SECTIONS) == BASE | {"tiers": TIERS}
    assert upgraded(BASE | {"tiers": TIERS}) == BASE | {"tiers": TIERS}
    assert upgraded(BASE)["tiers"] == [{"name": "full", "kind": "checkpoint", "serve": "torch"}]


@pytest.mark.parametrize("told", [SECTIONS, BASE | {"tiers": TIERS}])
def test_a_recipe_with_all_defaults_is_read_back(told: dict[str, Any]) -> None:
    recipe = load_recipe(told)
    again = load_recipe(upgraded(recipe.model_dump(mode="json")))
    assert (again.small, again.last) == (recipe.small, recipe.last)


def test_how_a_tier_is_made_does_not_depend_on_how_it_is_served() -> None:
    """Steps are skipped by it: a tier that is only served otherwise is not trained anew."""
    (_, mid), last = load_recipe(SECTIONS).small, load_recipe(SECTIONS).last
    plain = {key: value for key, value in SECTIONS.items() if key not in ("quantise", "export")}
    assert own_options(mid) == own_options(load_recipe(plain).small[1])
    full = load_recipe(plain).full.model_dump(mode="json", exclude={"prefix"})
    assert own_options(last) == full


def test_a_list_may_be_of_any_length() -> None:
    narrow = {"name": "narrow", "kind": "transformer", "layers": 1}
    recipe = load_recipe(BASE | {"tiers": [TIERS[0], narrow, *TIERS[1:]]})
    assert [each.name for each in recipe.small] == ["tiny", "narrow", "mid"]
    assert load_recipe(BASE | {"tiers": [{"kind": "checkpoint"}]}).small == ()


@pytest.mark.parametrize(
    ("tiers", "told"),
    [
        ([], "tiers"),
        (TIERS[:2], "tiers: the last one is the checkpoint"),
        ([TIERS[2], TIERS[2]], "tiers.0: the checkpoint comes last"),
        ([TIERS[0], TIERS[0], TIERS[2]], "tiers.1.name: 'tiny' stands twice"),
        ([{**TIERS[0], "name": "policy"}, TIERS[2]], "is the name of a step"),
        ([{**TIERS[0], "serve": "torch-int8"}, TIERS[2]], "tiers.0.serve"),
        ([{**TIERS[1], "serve": "tensorrt"}, TIERS[2]], "no runner 'tensorrt'; expected torch, "),
        ([{**TIERS[1], "exits": [0, 5]}, TIERS[2]], "tiers.0.exits: depth 5 is behind the last"),
        ([{**TIERS[1], "exits": [1]}, TIERS[2]], "tiers.0.exits: the first tier needs an exit"),
        ([{**TIERS[1], "widht": 1}, TIERS[2]], "tiers.0.widht: unknown key"),
    ],
)
def test_faults_of_a_list_are_told_with_their_place(tiers: Any, told: str) -> None:
    (fault,) = faults(tiers)
    assert told in fault


def test_a_runner_may_be_left_to_the_build() -> None:
    recipe = load_recipe(BASE | {"tiers": [*TIERS[:2], {"kind": "checkpoint", "serve": "auto"}]})
    assert recipe.measured == ("full",) and recipe.served["mid"] == "onnxruntime-int8"
    assert (recipe.int8, recipe.exported) == (("mid",), ("mid",))


def test_the_quickest_runner_serves_where_the_recipe_does_not_say() -> None:
    tiers = [TIERS[0], {"name": "mid", "kind": "pruned", "layers": 2}, {"kind": "checkpoint"}]
    recipe = load_recipe(BASE | {"tiers": tiers})
    assert recipe.served == {"tiny": "torch", "mid": "auto", "full": "auto"}
    halved = load_recipe(BASE | {"tiers": tiers, "cost": {"dtype": "bfloat16"}})
    assert set(halved.served.values()) == {"torch"}


def test_a_list_beside_sections_is_refused() -> None:
    assert faults(TIERS, mid={"layers": 2}) == ["mid: the recipe lists its tiers; say it there"]


def test_a_runner_and_a_half_precision_table_do_not_go_together() -> None:
    assert "cost.dtype" in faults(TIERS, cost={"dtype": "bfloat16"})[0]


def test_the_command_writes_the_new_form(tmp_path: Path) -> None:
    file, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(SECTIONS))
    result = CliRunner().invoke(app, ["recipe", str(file), "--upgrade", "--output", str(new)])
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(new.read_text())["tiers"] == TIERS
    assert load_recipe(new).small == load_recipe(file).small
    same = CliRunner().invoke(app, ["recipe", str(file), "--upgrade", "--output", str(file)])
    assert same.exit_code == 2 and yaml.safe_load(file.read_text()) == SECTIONS


def test_layers_with_a_prefix_are_not_exported() -> None:
    prefixed = [TIERS[0], TIERS[1], TIERS[2] | {"tune": "prefix"}]
    told = faults(prefixed)
    assert [each.split(":")[0] for each in told] == ["tiers.1.serve", "tiers.2.serve"]
    assert "not exported to onnxruntime-int8; serve mid by torch or torch-int8" in told[0]
    sections = SECTIONS | {"full": {"tune": "prefix"}}
    with pytest.raises(ConfigError) as caught:
        load_recipe(sections)
    assert [each.split(":")[0] for each in caught.value.faults] == ["mid", "full"]


def test_a_prefix_decides_how_a_tier_is_made_only_where_there_is_one() -> None:
    plain = {"name": "full", "kind": "checkpoint"}
    lora, prefix = ({"tiers": [plain | {"tune": tune}]} for tune in ("lora", "prefix"))
    assert "prefix" not in own_options(load_recipe(BASE | lora).last)
    assert own_options(load_recipe(BASE | prefix).last)["prefix"] == {"tokens": 16}
