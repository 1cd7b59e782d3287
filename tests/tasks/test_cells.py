"""Label columns of several labels and of numbers: what is read, and what is refused, by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adaptive
from adaptive.cells import CLASSES, Cells, NumberCells, SetCells, known, unknown_like
from adaptive.errors import ConfigError, DataError
from adaptive.training.data import from_memory
from adaptive.training.splits import make_splits

SETS, NUMBERS = SetCells(), NumberCells(0.0, 5.0)
TEXTS = ["first", "second", "third", "fourth"]


def read(labels: list[Any], cells: Cells) -> Any:
    return from_memory(TEXTS[: len(labels)], labels, cells=cells)


@pytest.mark.parametrize(
    "labels",
    [
        ["b|a", "a", "", " c | b "],
        [["b", "a"], ["a"], [], ["c", "b"]],
        [np.array(["b", "a"]), ("a",), np.array([]), ["c", "b"]],
    ],
    ids=["text", "lists", "arrays"],
)
def test_sets_of_labels_are_read_from_texts_and_lists_alike(labels: list[Any]) -> None:
    data = read(labels, SETS)
    assert data.label_names == ("a", "b", "c")
    assert data.labels.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]]
    other = data.with_labels(["x", "c", "b"], {"a": "x"})
    assert other.labels.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]
    merged = data.with_labels(["ab", "c"], {"a": "ab", "b": "ab"})
    assert merged.labels.tolist() == [[1, 0], [1, 0], [0, 0], [1, 1]]
    with pytest.raises(DataError, match=r"row 4: its label \(length 1\) is not one of the 2"):
        data.with_labels(["a", "b"])


def test_the_same_from_csv_and_from_jsonl(tmp_path: Path) -> None:
    rows = [("one", ["a", "b"]), ("two", []), ("three", ["b"])]
    jsonl, csv = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    jsonl.write_text("\n".join(json.dumps({"text": t, "label": each}) for t, each in rows))
    csv.write_text("text,label\n" + "".join(f"{t},{';'.join(each)}\n" for t, each in rows))
    found = [
        adaptive.load_data(jsonl, task="multi_label"),
        adaptive.load_data(csv, task={"kind": "multi_label", "separator": ";"}),
    ]
    for each in found:
        assert each.labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.raises(ConfigError, match="separator"):
        adaptive.load_data(csv, task={"kind": "multi_label", "separator": ""})


@pytest.mark.parametrize(
    ("cells", "value", "told"),
    [
        (SETS, None, "no list of labels; an empty one says"),
        (SETS, float("nan"), "no list of labels"),
        (SETS, "secret|secret", "one of its 2 labels stands twice"),
        (SETS, "secret||b", "label 2 of 3: no label"),
        (SETS, ["secret", None], "label 2 of 2: no label"),
        (SETS, [1.5], "label 1 of 1: the label is a float"),
        (SETS, {"secret": 1}, "the labels are a dict; give a list"),
        (NUMBERS, None, "no value"),
        (NUMBERS, "", "no value"),
        (NUMBERS, float("nan"), "no value"),
        (NUMBERS, "nan", "no finite number"),
        (NUMBERS, float("inf"), "no finite number"),
        (NUMBERS, "secret", "no finite number"),
        (NUMBERS, True, "no finite number"),
        (NUMBERS, [1.0], "no finite number"),
        (NUMBERS, 5.01, "outside the scale from 0 to 5"),
        (NUMBERS, "-1", "outside the scale from 0 to 5"),
    ],
)
def test_a_cell_that_is_no_label_is_told_by_its_row_and_not_quoted(
    cells: Cells, value: Any, told: str
) -> None:
    good = "a" if cells is SETS else "2.5"
    with pytest.raises(DataError, match="data, row 2: ") as caught:
        read([good, value], cells)
    assert told in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("mark", [";", ",", " "])
def test_a_wrong_separator_is_told(mark: str) -> None:
    with pytest.raises(DataError, match=r"row 3: the label holds .*set task\.separator") as caught:
        read(["rain", "snow", f"rain{mark}snow"], SETS)
    assert "rain" not in str(caught.value)
    assert len(read(["rain", f"slight{mark}snow"], SETS).label_names) == 2  # a name of its own


def test_numbers_are_read_as_they_stand() -> None:
    data = read(["0", 5, " 2.5 ", np.float64(1e-1)], NUMBERS)
    np.testing.assert_allclose(data.labels, [0.0, 5.0, 2.5, 0.1])
    assert data.label_names == () and data.labels.dtype == np.float32
    assert data.with_labels(["LABEL_0"]).labels is data.labels
    with pytest.raises(DataError, match="no labels to tell classes by"):
        data.with_classes("label")


@pytest.mark.parametrize("cells", [CLASSES, SETS, NUMBERS], ids=["class", "sets", "numbers"])
def test_what_is_not_known_is_told_from_what_is(cells: Cells) -> None:
    nothing = cells.unknown(3, 2)
    assert not known(nothing).any() and len(nothing) == 3
    given = {CLASSES: ["a", "b"], SETS: ["", "a|b"], NUMBERS: [0.0, 3.0]}[cells]
    labels = read(given, cells).labels
    assert known(labels).all()
    some = np.concatenate([labels, unknown_like(labels, 2)])
    assert known(some).tolist() == [True, True, False, False] and some.dtype == labels.dtype
    assert known(cells.renumbered(some, np.array([1, 0], np.int32), 2)).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_every_label_has_train_rows_however_rare_it_is() -> None:
    labels = [["often"]] * 120 + [["often", "rare"]] * 4 + [[]] * 76
    data = from_memory([f"text {i}" for i in range(200)], labels, cells=SETS)
    rare = data.label_names.index("rare")
    sizes = adaptive.Recipe.model_fields["data"].annotation.model_fields["splits"].default
    for seed in range(5):
        assert data.labels[make_splits(data, sizes, seed).train, rare].any()
