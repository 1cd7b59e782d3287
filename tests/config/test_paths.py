"""Relative paths in recipes and presets are relative to the file they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptive.config import load_preset, load_recipe
from adaptive.errors import ConfigError

RECIPE = """
name: demo
output: out/bundle
model: {id: owner/name}
data:
  source: texts.csv
  unlabelled:
    - {source: ../more.jsonl.gz}
    - {source: package:some_texts}
    - {source: imdb}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe beside the one that is the current folder."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "r.yaml").write_text(RECIPE)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_paths_of_a_recipe_are_relative_to_it(folder: Path) -> None:
    recipe = load_recipe("../recipes/r.yaml")
    assert recipe.output == str(folder / "out" / "bundle")
    assert recipe.data.source == str(folder / "texts.csv")
    sources = [each.source for each in recipe.data.unlabelled]
    assert sources == [str(folder.parent / "more.jsonl.gz"), "package:some_texts", "imdb"]
    assert recipe.model.id == "owner/name"  # nothing of that name is here: a hub id
    (folder / "owner" / "name").mkdir(parents=True)
    assert load_recipe("../recipes/r.yaml").model.id == str(folder / "owner" / "name")


def test_in_the_current_folder_they_stay_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name in ("r.yaml", folder / "r.yaml"):
        recipe = load_recipe(name)
        assert (recipe.output, recipe.data.source) == ("out/bundle", "texts.csv")
    monkeypatch.chdir(folder.parent)
    assert load_recipe("recipes/r.yaml").output == "recipes/out/bundle"


def test_what_is_in_the_current_folder_alone_is_refused_with_the_path_to_write(
    folder: Path,
) -> None:
    Path("owner/name").mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        load_recipe("../recipes/r.yaml")
    (fault,) = caught.value.faults
    assert fault.startswith("model.id: 'owner/name' is not beside the file")
    assert fault.endswith("write '../here/owner/name'")


def test_paths_of_the_command_line_and_of_mappings_are_relative_to_the_current_folder(
    folder: Path,
) -> None:
    Path("owner/name").mkdir(parents=True)
    overrides = ["data.source=a.csv", "output=b", "model={id: owner/name}"]
    recipe = load_recipe("../recipes/r.yaml", overrides)
    assert (recipe.data.source, recipe.output) == ("a.csv", "b")
    assert recipe.model.id == "owner/name"
    assert load_preset({"bundle": "owner/name"}).bundle == "owner/name"
    assert load_recipe(folder / "r.yaml", packed=True).data.source == "texts.csv"


def test_a_preset_finds_its_bundle_beside_it(folder: Path) -> None:
    (folder / "preset.yaml").write_text("bundle: bundles/x\n")
    assert load_preset(folder / "preset.yaml").bundle == "bundles/x"  # a hub id, so far
    (folder / "bundles" / "x").mkdir(parents=True)
    assert load_preset(folder / "preset.yaml").bundle == str(folder / "bundles" / "x")
