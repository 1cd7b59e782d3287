"""Items given to a pipeline are read as texts or pairs, or refused by their index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive.text.inputs import check, fault


def test_texts_of_every_shape_pass() -> None:
    texts = ["", "  ", "a", "\N{GRINNING FACE}", "x" * 1_000_000, np.str_("n")]
    found, pairs, faults = check(texts)
    assert found == texts
    assert all(type(text) is str for text in found)
    assert pairs is None
    assert faults == {}


def test_pairs_come_as_tuples_lists_and_mappings() -> None:
    found = check([("a", "b"), ["c", ""], {"text": "e", "text_pair": "f"}])
    assert found == (["a", "c", "e"], ["b", "", "f"], {})


def test_a_mapping_without_a_second_text_is_a_single_text() -> None:
    assert check([{"text": "a"}, {"text": "b", "text_pair": None}]) == (["a", "b"], None, {})


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "found None"),
        (float("nan"), "found NaN"),
        (3, "found int"),
        (np.float32(1), "found float32"),
        (b"a", "found bytes; decode"),
        (["a", "b", "c"], "found 3 in a list"),
        ((), "found 0 in a tuple"),
        (("a", None), "second text: expected text, found None"),
        ({"text": 1}, "text: expected text, found int"),
        ({"text": "a", "text_pair": float("nan")}, "text_pair: expected text, found NaN"),
        ({"secret": "a"}, "found 1 keys, 1 of them unknown"),
        ({"text": "a", "pair": "b"}, "found 2 keys, 1 of them unknown"),
        ("ab\ud800", "lone surrogate U+D800 at character 2"),
        (("a", "\udfff"), "second text: lone surrogate U+DFFF at character 0"),
    ],
)
def test_what_is_no_text_is_refused_and_its_mates_are_not(item: Any, reason: str) -> None:
    found, pairs, faults = check(["before", item, "after"])
    assert found == ["before", "", "after"]
    assert pairs is None
    assert list(faults) == [1]
    assert reason in faults[1]
    assert "secret" not in faults[1]


@pytest.mark.parametrize(
    ("items", "odd", "paired"),
    [
        (["a", ("b", "c"), "d"], [1], False),
        ([("a", "b"), "c", ("d", "e")], [1], True),
        (["a", ("b", "c")], [1], False),
        ([("a", "b"), "c"], [1], True),
        ([None, ("a", "b"), "c"], [0, 2], True),
        ([3, None], [0, 1], False),
    ],
)
def test_the_odd_ones_of_a_mixture_are_refused(
    items: list[Any], odd: list[int], paired: bool
) -> None:
    found, pairs, faults = check(items)
    assert sorted(faults) == odd
    assert (pairs is not None) == paired
    assert all(found[index] == "" for index in odd)
    assert pairs is None or len(pairs) == len(found) == len(items)


def test_a_generator_is_read_once_and_nothing_gives_nothing() -> None:
    assert check(str(i) for i in range(3)) == (["0", "1", "2"], None, {})
    assert check([]) == ([], None, {})


def test_a_true_text_has_no_fault() -> None:
    assert fault("é") is None
