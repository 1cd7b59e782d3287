"""A recipe may list any number of tiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_builds import context_of, favouring, recipe_in, write_data, write_model

from adaptive import AdaptivePipeline
from adaptive.bundle.store import load_bundle
from adaptive.config import Recipe, load_recipe
from adaptive.config.tiers import upgraded
from adaptive.tiers.int8 import available
from adaptive.tiers.store import load_tier
from adaptive.training.build import build
from adaptive.training.learn import runners as learn_runners

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
    "serve": "auto",
}
CPU = torch.device("cpu")
RUNNER = "torch-int8" if available() else "torch"

DEEP = {"name": "deep", "kind": "joint", "epochs": 1, "learning_rate": 1e-3, "serve": "torch"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a recipe of five tiers was built, as if without ONNX, torch-int8 the quickest."""
    folder = tmp_path_factory.mktemp("tiers")
    write_model(folder / "model")
    write_data(folder / "data.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adaptive.tiers.runners.find_spec", lambda name: None)
        patched.setattr("adaptive.tiers.runners.has_bfloat16", lambda: False)
        patched.setattr(learn_runners, "milliseconds", favouring(RUNNER))
        build(recipe_of(folder), folder / "run", quiet=True)
    return folder


def recipe_of(folder: Path) -> Recipe:
    told: dict[str, Any] = upgraded(recipe_in(folder).model_dump(mode="json"))
    told["tiers"].insert(1, NARROW)
    told["tiers"].insert(3, DEEP)
    return load_recipe(told)


def test_five_tiers_are_built_and_answer(folder: Path) -> None:
    pipeline = AdaptivePipeline.from_config(folder / "bundle")
    bundle = pipeline.bundle
    assert [tier.name for tier in bundle.tiers] == ["tiny", "narrow", "mid", "deep", "full"]
    assert [stage.tier for stage in bundle.stages] == [0, 1, 1, *[2] * 3, *[3] * 4, *[4] * 4]
    names = [tier.name for tier in bundle.tiers]
    answers = pipeline(["a fine film", "a dull film"])
    assert all(answer["routing"]["tier"] in names for answer in answers)


def test_a_tier_is_served_by_the_quickest_runner_of_the_machine_and_the_card_says_why(
    folder: Path,
) -> None:
    bundle = load_bundle(folder / "bundle")
    assert [tier.int8 for tier in bundle.tiers] == [
        False,
        RUNNER == "torch-int8",
        False,
        False,
        False,
    ]
    told = context_of(recipe_of(folder), folder / "run").figures("runners")["narrow"]
    assert told["runner"] == RUNNER and {"torch", RUNNER} <= told["milliseconds"].keys()
    assert "onnxruntime is not installed" in told["left_out"]["onnxruntime-int8"]
    assert "no bfloat16 instructions" in told["left_out"]["torch-bfloat16"]
    card = (folder / "bundle" / "README.md").read_text()
    assert f"Runner of the narrow tier: {RUNNER}, the quickest on " in card
    assert "torch-bfloat16, because this CPU has no bfloat16 instructions" in card


def test_the_bundle_keeps_the_list_and_tells_of_each_tier(folder: Path) -> None:
    kept = yaml.safe_load((folder / "bundle" / "recipe.yaml").read_text())
    assert [each["name"] for each in kept["tiers"]] == ["tiny", "narrow", "mid", "deep", "full"]
    card = (folder / "bundle" / "README.md").read_text()
    assert "Narrow tier: a transformer, distilled from the full tier." in card
    assert "Mid tier: cut from the full tier" in card
    assert "Deep tier: the full tier, trained on together with its exits." in card


def test_a_joint_tier_begins_as_the_full_one_and_leaves_it_as_it_was(folder: Path) -> None:
    names = ("deep", "exits", "full")
    deep, exits, full = (load_tier(folder / "run" / name / "tier", CPU) for name in names)
    assert deep.depths == exits.depths and deep.name == "deep"
    for name, weight in full.backbone.state_dict().items():
        assert torch.equal(weight, exits.backbone.state_dict()[name])
    moved = [
        float((weight - exits.state_dict()[name]).abs().max())
        for name, weight in deep.state_dict().items()
    ]
    assert 0.0 < max(moved) < 0.1  # by few steps
    assert sum(each > 0.0 for each in moved) > 0.9 * len(moved)  # layers, exits, embeddings
