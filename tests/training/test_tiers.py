"""A recipe may list any number of tiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_builds import recipe_in, write_data, write_model

from adaptive import AdaptivePipeline
from adaptive.config import Recipe, load_recipe
from adaptive.config.tiers import upgraded
from adaptive.training.build import build

NARROW = {
    "name": "narrow",
    "kind": "transformer",
    "layers": 1,
    "hidden": 8,
    "heads": 2,
    "intermediate": 16,
    "epochs": 1,
    "learning_rate": 3e-3,
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a recipe of four tiers was built."""
    folder = tmp_path_factory.mktemp("tiers")
    write_model(folder / "model")
    write_data(folder / "data.csv")
    build(recipe_of(folder), folder / "run", quiet=True)
    return folder


def recipe_of(folder: Path) -> Recipe:
    told: dict[str, Any] = upgraded(recipe_in(folder).model_dump(mode="json"))
    told["tiers"].insert(1, NARROW)
    return load_recipe(told)


def test_four_tiers_are_built_and_answer(folder: Path) -> None:
    pipeline = AdaptivePipeline.from_config(folder / "bundle")
    bundle = pipeline.bundle
    assert [tier.name for tier in bundle.tiers] == ["tiny", "narrow", "mid", "full"]
    assert [stage.tier for stage in bundle.stages] == [0, 1, 1, *[2] * 3, *[3] * 4]
    answers = pipeline(["a fine film", "a dull film"])
    assert all(answer["routing"]["tier"] in ("tiny", "narrow", "mid", "full") for answer in answers)


def test_the_bundle_keeps_the_list_and_tells_of_each_tier(folder: Path) -> None:
    kept = yaml.safe_load((folder / "bundle" / "recipe.yaml").read_text())
    assert [each["name"] for each in kept["tiers"]] == ["tiny", "narrow", "mid", "full"]
    card = (folder / "bundle" / "README.md").read_text()
    assert "Narrow tier: a transformer, distilled from the full tier." in card
    assert "Mid tier: cut from the full tier" in card
