"""Data come from folders, installed packages, the hub and memory, filtered and named."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adaptive.config.recipe import DataConfig
from adaptive.errors import DataError
from adaptive.training.data import Dataset, from_frame, from_memory, load_data


def load(source: object, **settings: Any) -> Dataset:
    return load_data(DataConfig(source=str(source), **settings))


def refusal(source: object, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **settings)
    return str(caught.value)


def names(data: Dataset) -> list[str]:
    assert data.labels is not None
    return [data.label_names[label] for label in data.labels]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "dev.jsonl").write_text('{"text":"c","label":"x"}\n')
    (tmp_path / "test.csv").write_text("text,label\nd,y\n")
    (tmp_path / "extra_test.csv").write_text("nothing")
    return tmp_path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "some_texts"
    (root / "data").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    (root / "data" / "all.csv").write_text("text,label,source\na,0,s\nb,1,s\nc,1,t\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


def test_a_folder_tells_which_rows_are_train_validation_and_test(folder: Path) -> None:
    data = load(folder)
    assert data.split is not None
    found = dict(zip(data.texts, data.split.tolist(), strict=True))
    assert found == {"a": "train", "b": "train", "c": "validation", "d": "test"}
    assert data.places[data.texts.index("d")].endswith("test.csv, row 1 (line 2)")


def test_one_file_of_a_folder_can_be_named_but_none_outside(folder: Path) -> None:
    assert load(folder, file="train.csv").texts == ["a", "b"]
    inner = folder / "inner"
    inner.mkdir()
    assert "lies outside" in refusal(inner, file="../train.csv")
    assert "expected train, validation and test files" in refusal(inner)


def test_a_folder_with_two_files_for_one_part_is_refused(folder: Path) -> None:
    (folder / "validation.csv").write_text("text,label\n")
    assert "both dev.jsonl and validation.csv are validation" in refusal(folder)


def test_the_only_data_file_of_a_package_is_found_without_importing_it(package: Path) -> None:
    data = load("package:some_texts", where={"source": "s"}, rename={"1": "good", "0": "bad"})
    assert data.texts == ["a", "b"]
    assert names(data) == ["bad", "good"]
    assert data.label_names == ("good", "bad")  # in the order of rename
    assert data.places[1].endswith("row 2 (line 3)")
    assert "some_texts" not in sys.modules


def test_a_package_with_several_files_wants_one_named(package: Path) -> None:
    (package / "b.jsonl").write_text('{"text":"z","label":"1"}')
    message = refusal("package:some_texts")
    assert "found 2" in message
    assert "b.jsonl" in message
    assert load("package:some_texts", file="b.jsonl").texts == ["z"]


def test_a_package_that_is_not_installed_is_named() -> None:
    assert "no such package is installed" in refusal("package:no_such_texts")
    assert "import name of a top-level package" in refusal("package:os.path")


def test_where_that_no_row_meets_and_unknown_columns_are_refused(package: Path) -> None:
    assert "no rows where {'source': 'q'}" in refusal("package:some_texts", where={"source": "q"})
    assert "the nearest is column 3" in refusal("package:some_texts", where={"sauce": "s"})


def test_a_misspelt_rename_is_refused_and_a_needless_one_is_not(package: Path) -> None:
    assert "rename names the label '2'" in refusal("package:some_texts", rename={"2": "q"})
    rename = {"0": "bad", "1": "good", "2": "superb"}
    assert load("package:some_texts", rename=rename).label_names == ("bad", "good")


def test_limit_takes_a_seeded_sample(package: Path) -> None:
    rows = "".join(f"t{i},{i % 2}\n" for i in range(100))
    (package / "data" / "all.csv").write_text("text,label\n" + rows)
    data = load("package:some_texts", limit=10, seed=1)
    assert len(data) == 10
    assert data.texts == load("package:some_texts", limit=10, seed=1).texts
    assert data.texts != load("package:some_texts", limit=10, seed=2).texts
    assert f"row {int(data.texts[0][1:]) + 1} " in data.places[0]


def test_pairs_and_text_without_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("first,second\na,b\nc,d\n")
    data = load(tmp_path / "a.csv", text="first", pair="second", label=None)
    assert (data.texts, data.pairs, data.labels) == (["a", "c"], ["b", "d"], None)
    assert data.label_names == ()


class HubPart:
    """As much of `datasets.Dataset` as is used."""

    def __init__(self, columns: dict[str, list[Any]], classes: list[str] | None = None) -> None:
        self.column_names = list(columns)
        self.features = {"label": SimpleNamespace(names=classes)} if classes else {}
        self._columns = columns

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]


def test_a_hub_data_set_gives_class_names_and_leaves_withheld_labels_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[Any, ...]] = []

    def load_dataset(*args: Any, **kwargs: Any) -> dict[str, HubPart]:
        calls.append((args, kwargs))
        classes = ["negative", "positive"]
        return {
            "train": HubPart({"sentence": ["a", "b"], "label": [1, 0]}, classes),
            "test": HubPart({"sentence": ["c"], "label": [-1]}, classes),
            "unsupervised": HubPart({"sentence": ["d"], "label": [0]}, classes),
        }

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    data = load("owner/name", name="sst2", revision="abc", text="sentence")
    assert calls == [
        (("owner/name",), {"name": "sst2", "revision": "abc", "data_files": None}),
    ]
    assert data.texts == ["a", "b"]
    assert names(data) == ["positive", "negative"]
    assert data.split is not None
    assert data.split.tolist() == ["train", "train"]
    assert data.places[1] == "owner/name, train, row 2"


def test_the_hub_extra_is_told_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'adaptive-cascade[hub]'" in refusal("owner/name")
    assert "no such file or folder" in refusal("./owner/name")


def test_what_the_hub_library_raises_names_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> None:
        raise FileNotFoundError("not on the hub")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert "owner/name: the hub's data set could not be loaded: FileNotFound" in refusal(
        "owner/name"
    )


def test_lists_arrays_and_columns_come_from_memory() -> None:
    data = from_memory(["a", "b", "c"], np.array([10, 9, 10]))
    assert data.label_names == ("9", "10")
    assert names(data) == ["10", "9", "10"]
    frame = pd.DataFrame({"q": ["a", "b"], "r": ["c", "d"], "y": pd.Categorical(["NA", "1"])})
    data = from_memory(frame["q"], frame["y"], frame["r"])
    assert (data.texts, data.pairs, names(data)) == (["a", "b"], ["c", "d"], ["NA", "1"])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([np.int64(0), np.int64(1)], ("0", "1")),
        ([torch.tensor(7), torch.tensor(10)], ("7", "10")),
        (torch.tensor([0, 1]), ("0", "1")),
        (np.array([0, 1], dtype=object), ("0", "1")),
        ([np.bool_(False), np.bool_(True)], ("false", "true")),
        ([np.str_("x"), np.str_("y")], ("x", "y")),
        (pd.Series([1, 2], dtype="Int64"), ("1", "2")),
    ],
)
def test_scalars_of_every_library_name_labels_and_groups(
    labels: Any, expected: tuple[str, ...]
) -> None:
    data = from_memory(["a", "b"], labels, groups={"kind": labels})
    assert data.label_names == data.groups["kind"].names == expected
    assert data.labels is not None and data.labels.tolist() == [0, 1]


def test_class_labels_that_are_withheld_in_part_are_told_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns = {"text": ["a", "b", "c", "d"], "label": [1, None, -1, 2]}
    part = HubPart(columns, ["negative", "positive"])
    with pytest.raises(DataError) as caught:
        from_frame({"train": part})
    rows = [f"train, row {number}: no label" for number in (2, 3, 4)]
    assert str(caught.value) == "\n".join(rows)


@pytest.mark.parametrize(
    ("pair", "alike"),
    [(("good", "good "), True), (("caf\u00e9", "cafe\u0301"), True), (("x", "y"), False)],
)
def test_labels_that_people_would_take_for_one_are_told_by_their_rows(
    caplog: pytest.LogCaptureFixture, pair: tuple[str, str], alike: bool
) -> None:
    data = from_memory(["a", "b", "c"], [*pair, "other"])
    assert len(data.label_names) == 3
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == alike
    assert all("2 labels differ in outer white space, Unicode form" in each for each in told)
    assert all("data, row 1" in each and "data, row 2" in each for each in told)
    with pytest.raises(DataError, match="it differs in outer white space") as caught:
        from_memory(["a"], ["Label\u00a0"]).with_labels(["label", "x"])
    assert "from 'label'" in str(caught.value)


def test_raw_labels_are_renamed_into_known_ones() -> None:
    data = from_memory(["a", "b", "c"], ["1", "good", "0"])
    found = data.with_labels(["bad", "good"], {"0": "bad", "1": "good"})
    assert found.labels is not None and found.labels.tolist() == [1, 1, 0]


def test_data_frames_come_whole_or_by_split() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": [1, 0]})
    data = from_frame(frame)
    assert (data.texts, names(data), data.split) == (["a", "b"], ["1", "0"], None)
    data = from_frame({"train": frame, "test": frame})
    assert data.split is not None
    assert data.split.tolist() == ["train", "train", "test", "test"]
    with pytest.raises(DataError, match=r"no column 'label' among 2$"):
        from_frame(frame.rename(columns={"label": "secret"}))


@pytest.mark.parametrize(
    ("texts", "labels", "reason"),
    [
        (["a", None], ["x", "y"], "data, row 2: expected text, found None"),
        (["a", "b"], ["x", float("nan")], "data, row 2: no label"),
        (["a", "b"], ["x", np.float32("nan")], "data, row 2: no label"),
        (["a", "b"], pd.Series([1, None], dtype="Int64"), "data, row 2: no label"),
        (["a", "b"], pd.Categorical(["x", None]), "data, row 2: no label"),
        (["a", "b"], pd.Series([1, None]), "data, row 1: the label is a float"),
        (["a", "b"], ["x"], "2 in text, 1 in label"),
        (["a"], [["x", "y"]], "data, row 1: the label is a list"),
        ("ab", None, "expected a sequence of texts, found a single one"),
        ([], None, "data: no rows"),
    ],
)
def test_wrong_values_in_memory_are_told_by_row(texts: Any, labels: Any, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        from_memory(texts, labels)
    assert reason in str(caught.value)


def test_labels_can_be_put_in_a_models_order() -> None:
    data = from_memory(["a", "b"], ["x", "y"]).with_labels(["z", "y", "x"])
    assert data.labels is not None
    assert data.labels.tolist() == [2, 1]
    assert data.label_names == ("z", "y", "x")
    with pytest.raises(DataError, match=r"row 2: its label \(length 1\) is not one of the 2"):
        data.with_labels(["x", "z"])


def test_the_nearest_of_many_labels_is_told() -> None:
    data = from_memory(["a", "b"], ["alpha", "transfr"])
    with pytest.raises(DataError, match="did you mean 'transfer'"):
        data.with_labels(["alpha", *(str(i) for i in range(50)), "transfer"])


def test_taken_rows_keep_all_that_is_known_of_them() -> None:
    frame = {"train": pd.DataFrame({"text": ["a", "b"], "pair": ["c", "d"], "label": ["x", "y"]})}
    data = from_frame(frame, pair="pair").take(np.array([1]))
    assert (data.texts, data.pairs, names(data)) == (["b"], ["d"], ["y"])
    assert data.places[0] == "train, row 2"
    assert data.split is not None
    assert data.split.tolist() == ["train"]


def test_columns_divide_the_rows_into_named_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label,region,year\na,x,north,10\nb,y,south,9\nc,x,north,10\n")
    data = load_data(DataConfig(source=str(path)), groups=["region", "year"])
    assert data.groups["region"].names == ("north", "south")
    assert data.groups["year"].names == ("9", "10")
    assert data.groups["region"].index.tolist() == [0, 1, 0]
    assert data.take(np.array([1, 0])).groups["year"].index.tolist() == [0, 1]
    assert load(path).groups == {}
    classes = data.with_labels(["y", "x"]).with_classes("label").groups["label"]
    assert (classes.names, classes.index.tolist()) == (("y", "x"), [1, 0, 1])
    frame = pd.read_csv(path)
    from_pandas = from_frame(frame, groups=["region"]).groups["region"]
    listed = from_memory(["a", "b"], groups={"region": ["s", "n"]}).groups["region"]
    assert from_pandas.index.tolist() == [0, 1, 0]
    assert (listed.names, listed.index.tolist()) == (("n", "s"), [1, 0])


def test_a_column_of_texts_is_no_groups() -> None:
    texts = [f"secret {number}" for number in range(30)]
    with pytest.raises(DataError, match="30 different values in 30 rows are too many") as caught:
        from_memory(texts, groups={"kind": texts})
    assert "secret" not in str(caught.value)


def test_rows_without_a_group_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label,region\na,x,north\nb,y,\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\): no group in column 'region'"):
        load_data(DataConfig(source=str(path)), groups=["region"])
    with pytest.raises(DataError, match="no column 'regoin' among 3; the nearest is column 3"):
        load_data(DataConfig(source=str(path)), groups=["regoin"])
    with pytest.raises(DataError, match="no labels to tell classes by"):
        load(path, label=None).with_classes("label")
