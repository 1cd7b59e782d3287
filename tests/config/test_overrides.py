"""Overrides set values by path, and say what cannot be set."""

from __future__ import annotations

import pytest

from adaptive.config import apply_overrides
from adaptive.errors import ConfigError


def test_values_are_read_as_yaml() -> None:
    result = apply_overrides(
        {}, ["a=1", "b=[1, x]", "c=null", "d=text = more", "e=", "f='1'", "g={h: 2}"]
    )
    assert result == {
        "a": 1,
        "b": [1, "x"],
        "c": None,
        "d": "text = more",
        "e": None,
        "f": "1",
        "g": {"h": 2},
    }


def test_paths_reach_into_mappings_lists_and_absent_parents() -> None:
    base = {"a": {"b": 1}, "l": [{"x": 1}, {"x": 2}], "n": None}
    result = apply_overrides(base, ["a.c=2", "l.1.x=3", "n.m.k=4", "new.k=5"])
    assert result == {
        "a": {"b": 1, "c": 2},
        "l": [{"x": 1}, {"x": 3}],
        "n": {"m": {"k": 4}},
        "new": {"k": 5},
    }
    assert base == {"a": {"b": 1}, "l": [{"x": 1}, {"x": 2}], "n": None}


def test_a_later_override_wins() -> None:
    assert apply_overrides({"a": 1}, ["a=2", "a=3"]) == {"a": 3}


def test_every_override_that_cannot_be_applied_is_listed() -> None:
    overrides = ["a", "a..b=1", "a.b=1", "l.5=1", "l.x=1", "c=[&q 1, *q]", "c=!!python/name:x y"]
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": 1, "l": [1]}, overrides)
    text = str(caught.value)
    for override in overrides:
        assert repr(override) in text


def test_entries_of_a_list_are_found_by_name() -> None:
    tiers = [{"name": "tiny", "epochs": 1}, {"name": "full", "tune": "full"}]
    result = apply_overrides({"tiers": tiers}, ["tiers.full.tune=lora", "tiers.0.epochs=3"])
    assert [each.get("tune", each.get("epochs")) for each in result["tiers"]] == [3, "lora"]
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"tiers": tiers}, ["tiers.mid.epochs=3"])
    assert "none of the names in it: tiny, full" in caught.value.faults[0]
