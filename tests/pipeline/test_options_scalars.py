"""Numbers of numpy and torch do wherever Python's do."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from adaptive.config import Preset, load_preset, load_recipe
from adaptive.options import Options, call_options, choose_device
from adaptive.scalars import is_missing, is_whole, plain
from adaptive.types import Target

PRESET = Preset(bundle="x")


def settled(**given: Any) -> Options:
    left_out = dict.fromkeys(
        ("top_k", "batch_size", "truncation", "errors", "function_to_apply", "padding")
    )
    return call_options(PRESET, **{**left_out, **given}, length=8)


@pytest.mark.parametrize("two", [2, np.int64(2), np.uint8(2), torch.tensor(2), np.array(2)])
def test_whole_numbers_of_every_library_are_options(two: Any) -> None:
    found = settled(top_k=two, batch_size=two)
    assert (found.top_k, found.batch_size) == (2, 2)
    assert type(found.top_k) is int and type(found.batch_size) is int


@pytest.mark.parametrize("value", [0, -1, np.int64(0), 2.0, np.float64(2), True, np.bool_(True)])
def test_what_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="top_k"):
        settled(top_k=value)
    with pytest.raises(ValueError, match="batch_size"):
        settled(batch_size=value)


def test_switches_and_devices_may_be_scalars() -> None:
    assert settled(truncation=np.bool_(False)).overflow == "error"
    assert choose_device(np.int64(-1)).type == "cpu"  # type: ignore[arg-type]


def test_recipes_and_presets_take_scalars_and_keep_pythons_own() -> None:
    recipe = load_recipe(
        {
            "name": "demo",
            "output": "out",
            "seed": np.int64(3),
            "model": {"id": "x"},
            "data": {"source": "x.csv", "limit": torch.tensor(5), "splits": {"fit": np.int32(9)}},
            "target": {"metric": "agreement", "level": np.float32(0.5)},
            "search": {"minimise": "work"},
        }
    )
    assert (recipe.seed, recipe.data.limit, recipe.data.splits.fit) == (3, 5, 9)
    assert recipe.targets == (Target("agreement", 0.5),)
    json.dumps(recipe.model_dump(mode="json"))
    assert load_preset({"bundle": "x", "batch_size": np.int64(4)}).batch_size == 4


def test_a_targets_numbers_can_be_written() -> None:
    target = Target("text_cost", np.float32(0.5), np.float64(0.9), bound=torch.tensor(2.0))  # type: ignore[arg-type]
    assert target == Target("text_cost", 0.5, 0.9, bound=2.0)
    assert json.dumps([target.level, target.confidence, target.bound]) == "[0.5, 0.9, 2.0]"


def test_scalars_are_told_apart() -> None:
    assert [is_whole(each) for each in (1, np.int8(1), 1.0, True, "1", None)] == [
        True,
        True,
        *[False] * 4,
    ]
    assert is_missing(np.float32("nan")) and not is_missing("nan") and not is_missing(None)
    day = np.datetime64("2024-01-02", "ns")
    assert plain(day) is day
    assert plain([1]) == [1] and plain(np.arange(2)).tolist() == [0, 1]
