"""Policies, targets and outcome tables survive the trip to disk, or are refused there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive.bundle.contents import stages_of
from adaptive.bundle.files import read_numpy, write_numpy
from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.bundle.policies import (
    policy_from_json,
    policy_to_json,
    targets_from_json,
    targets_to_json,
)
from adaptive.errors import BundleError
from adaptive.policy.worth import classified
from adaptive.types import ALWAYS, NEVER, Groups, OutcomeTable, Policy, Target

STAGES = stages_of(((0,), (2, 4)))


def test_stages_are_counted_through_the_tiers_in_order() -> None:
    assert [(s.tier, s.exit, s.depth) for s in STAGES] == [(0, 0, 0), (1, 0, 2), (1, 1, 4)]


@pytest.mark.parametrize(
    "policy",
    [
        Policy((0, 1), (0.1 + 0.2, NEVER, ALWAYS)),
        Policy((0, 1), (0.9, 0.5, 1e-300), risk_weight=1.7, entry_cost=(0.25, 3.0)),
        Policy((1,), (NEVER, NEVER, 0.0)),
    ],
)
def test_a_policy_survives_json_to_the_last_bit(policy: Policy) -> None:
    text = json.dumps(policy_to_json(policy), allow_nan=False)
    assert policy_from_json(json.loads(text), STAGES, "policy.json") == policy


def test_infinite_thresholds_are_words() -> None:
    document = policy_to_json(Policy((0, 1), (0.5, NEVER, ALWAYS)))
    assert document["thresholds"] == [0.5, "never", "always"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"thresholds": [0.5, 0.5]}, "2 thresholds for 3 stages"),
        ({"thresholds": [0.5, 0.5, "sometimes"]}, "'sometimes'"),
        ({"thresholds": [0.5, 0.5, None]}, "None"),
        ({"thresholds": [0.5, 0.5, True]}, "True"),
        ({"thresholds": [0.5, 0.5, float("nan")]}, "nan"),
        ({"thresholds": 0.5}, "must be a list"),
        ({"thresholds": ["never"] * 3}, "nothing would answer"),
        ({"path": []}, "ascending"),
        ({"path": [1, 0]}, "ascending"),
        ({"path": [0, 0, 1]}, "ascending"),
        ({"path": ["0", "1"]}, "ascending"),
        ({"path": [0, 2]}, "2 tiers"),
        ({"path": [-1, 0]}, "2 tiers"),
        ({"path": [0]}, "stage 1 is on, but its tier is off the path"),
        ({"risk_weight": "high"}, "'high'"),
        ({"risk_weight": 1.0, "entry_cost": [1.0]}, "1 entry costs for 2 tiers"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(change: dict[str, Any], why: str) -> None:
    document = {**policy_to_json(Policy((0, 1), (0.5, 0.5, ALWAYS))), **change}
    with pytest.raises(BundleError, match=r"^policy\.json") as caught:
        policy_from_json(document, STAGES, "policy.json")
    assert why in str(caught.value)


def test_targets_survive_json() -> None:
    targets = (Target("accuracy_drop", 0.01, 0.9), Target("agreement", 0.05, 0.9, "region"))
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets))), "x") == targets


def make_table() -> OutcomeTable:
    draw = np.random.default_rng(1)
    return classified(
        stages=STAGES,
        # Column-major, as slicing and transposing leave arrays
        predictions=np.asfortranarray(draw.integers(0, 9, (7, 3), dtype=np.int32)),
        reliability=draw.random((3, 7), dtype=np.float32).T,
        risk=np.zeros((7, 2), dtype=np.float32),
        labels=np.full(7, -1, dtype=np.int32),
        tokens=np.arange(7),
    )


def test_an_outcome_table_survives_whatever_its_memory_order(tmp_path: Path) -> None:
    table = make_table()
    save_outcomes(table, tmp_path / "t.safetensors")
    loaded = load_outcomes(tmp_path / "t.safetensors", STAGES, "t")
    assert loaded.stages == table.stages
    for name in ("predictions", "reliability", "risk", "labels", "tokens"):
        found, saved = getattr(loaded, name), getattr(table, name)
        assert np.array_equal(found, saved), name
        assert found.dtype == saved.dtype, name


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("predictions", np.zeros((7, 2), dtype=np.int32)),
        ("predictions", np.zeros((7, 3), dtype=np.int64)),
        ("reliability", np.zeros((6, 3), dtype=np.float32)),
        ("risk", np.zeros((7, 3), dtype=np.float32)),
        ("labels", np.zeros((7, 1), dtype=np.int32)),
        ("tokens", None),
    ],
)
def test_an_outcome_table_of_another_shape_is_refused(
    tmp_path: Path, name: str, array: np.ndarray[Any, Any] | None
) -> None:
    path = tmp_path / "t.safetensors"
    save_outcomes(make_table(), path)
    arrays, metadata = read_numpy(path, "t")
    del arrays[name]
    if array is not None:
        arrays[name] = array
    write_numpy(path, arrays, metadata)
    with pytest.raises(BundleError, match=r"^t: ") as caught:
        load_outcomes(path, STAGES, "t")
    assert name in str(caught.value) or array is None


def test_groups_survive_with_their_names_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    groups = {
        "region": Groups(("north", "south", "nobody's"), np.array([0, 1, 1, 0, 0, 1, 0], np.int32)),
        "label": Groups(("a",), np.zeros(7, np.int32)),
    }
    save_outcomes(replace(make_table(), groups=groups), path)
    loaded = load_outcomes(path, STAGES, "t").groups
    assert {name: each.names for name, each in loaded.items()} == {
        name: each.names for name, each in groups.items()
    }
    assert loaded["region"].index.tolist() == groups["region"].index.tolist()
    arrays, metadata = read_numpy(path, "t")
    for change, why in (
        ({"group.region": np.full(7, 3, np.int32)}, "without a name"),
        ({"group.region": np.full(7, -1, np.int32)}, "without a name"),
        ({"group.region": np.zeros(6, np.int32)}, "must be int32"),
        ({"group.other": np.zeros(7, np.int32)}, "expected"),
    ):
        write_numpy(path, arrays | change, metadata)
        with pytest.raises(BundleError, match=why):
            load_outcomes(path, STAGES, "t")
    for names in ("[]", '{"region": 3}', '{"regions": ["a"]}', "{"):
        write_numpy(path, arrays, metadata | {"groups": names})
        with pytest.raises(BundleError, match=r"^t: "):
            load_outcomes(path, STAGES, "t")


def test_an_outcome_table_of_other_stages_is_refused(tmp_path: Path) -> None:
    save_outcomes(make_table(), tmp_path / "t.safetensors")
    with pytest.raises(BundleError, match="other stages"):
        load_outcomes(tmp_path / "t.safetensors", stages_of(((0,), (1, 4))), "t")
