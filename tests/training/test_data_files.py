"""CSV, JSONL and Parquet are read as they stand; what is wrong is told by file and row."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptive.config.recipe import DataConfig
from adaptive.errors import DataError
from adaptive.training.data import Dataset, load_data


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def load(source: str, **settings: Any) -> Dataset:
    return load_data(DataConfig(source=source, **settings))


def names(data: Dataset) -> list[str]:
    assert data.labels is not None
    return [data.label_names[label] for label in data.labels]


def refusal(source: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **settings)
    return str(caught.value)


def test_csv_keeps_quoted_commas_line_breaks_and_every_label_as_text(tmp_path: Path) -> None:
    content = 'label,text,other\r\n1,"a, b\nc",x\r\n\r\nNA,"say ""d""",y\r\n01,é,z\r\n'
    data = load(write(tmp_path / "a.csv", "\ufeff" + content))
    assert data.texts == ["a, b\nc", 'say "d"', "é"]
    assert names(data) == ["1", "NA", "01"]
    assert data.split is None
    assert data.places[1].endswith("a.csv, row 2 (line 5)")


def test_csv_fields_may_be_longer_than_the_readers_own_limit(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    data = load(write(tmp_path / "a.csv", f"text,label\n{'x' * 200_000},1\n"))
    assert len(data.texts[0]) == 200_000
    assert csv.field_size_limit() == limit


def test_jsonl_reads_numbers_and_truth_values_as_label_names(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b", "label": 1}, {"label": "1.0", "text": "c", "more": [2]}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    data = load(write(tmp_path / "a.jsonl", "\n".join([*lines, "", '{"text":"d","label":true}'])))
    assert data.texts == ["a\u2028b", "c", "d"]
    assert names(data) == ["1", "1.0", "true"]
    assert data.places[2].endswith("a.jsonl, row 3 (line 4)")


def test_parquet_reads_strings_and_dictionaries(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = pyarrow.array(["NA", "1"]).dictionary_encode()
    table = pyarrow.table({"text": ["a", "b"], "label": labels, "unused": [1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    data = load(str(tmp_path / "a.parquet"))
    assert (data.texts, names(data)) == (["a", "b"], ["NA", "1"])
    assert data.places[1].endswith("a.parquet, row 2")
    assert "no column 'txt' among 3; the nearest is column 1 (length 4)" in refusal(
        str(tmp_path / "a.parquet"), text="txt"
    )
    write(tmp_path / "b.parquet", "not parquet")
    assert "b.parquet: malformed Parquet" in refusal(str(tmp_path / "b.parquet"))


def test_parquet_without_pyarrow_tells_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = write(tmp_path / "a.parquet", "")
    assert "pip install 'adaptive-cascade[parquet]'" in refusal(source)


@pytest.mark.parametrize(
    ("name", "content", "place", "reason"),
    [
        ("a.csv", b"text,label\na,1\nb,2\ncaf\xe9,1\n", "row 3 (line 4)", "0xe9 at character 4"),
        ("a.jsonl", b'{"text":"a","label":1}\n\xff\xfe', "row 2 (line 2)", "0xff at character 1"),
        ("a.csv", "text,label\na,1\nb,c,2\n", "row 2 (line 3)", "3 fields, the header has 2"),
        ("a.csv", "text,label\na,1\nb\n", "row 2 (line 3)", "1 fields, the header has 2"),
        ("a.csv", 'text,label\n"a\nb",1\n"secret', "a.csv, row 2", "malformed CSV"),
        ("a.csv", 'text,label\n"a\nb",1\n ,2\n', "row 2 (line 4)", "empty text"),
        ("a.csv", "text,label\na,1\nb,\n", "row 2 (line 3)", "no label"),
        ("a.csv", "text,label\na, \n", "row 1 (line 2)", "no label"),
        ("a.csv", "", "a.csv", "no rows"),
        ("a.csv", "text,label\n", "a.csv", "no rows"),
        ("a.csv", "Text,label\na,1\n", "a.csv", "the nearest is column 1 (length 4)"),
        ("a.csv", "text,label,text\na,1,b\n", "a.csv", "2 columns are named 'text'"),
        ("a.csv", "text\na\n", "a.csv", "`label: null` takes the text alone"),
        ("a.jsonl", '{"text":"a","label":1}\n{"text":', "row 2 (line 2)", "malformed JSON"),
        ("a.jsonl", '["secret"]', "row 1 (line 1)", "expected an object, found list"),
        ("a.jsonl", '{"text":"a"}', "row 1 (line 1)", "no column 'label'"),
        ("a.jsonl", '{"text":null,"label":1}', "row 1 (line 1)", "expected text, found None"),
        ("a.jsonl", '{"text":7,"label":1}', "row 1 (line 1)", "expected text, found int"),
        ("a.jsonl", '{"text":"\\ud800","label":1}', "row 1 (line 1)", "lone surrogate"),
        ("a.jsonl", '{"text":"a","label":1.0}', "row 1 (line 1)", "the label is a float"),
        ("a.jsonl", '{"text":"a","label":NaN}', "row 1 (line 1)", "no label"),
        ("a.txt", "a", "a.txt", "expected one of .csv, .tsv, .jsonl"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_row(
    tmp_path: Path, name: str, content: str | bytes, place: str, reason: str
) -> None:
    message = refusal(write(tmp_path / name, content))
    assert place in message
    assert reason in message
    assert "secret" not in message


def test_the_first_faults_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "a.csv", "text,label\n" + "a,1\n" + " ,1\n" * 9))
    assert message.count("empty text") == 5
    assert message.endswith("and 4 more rows")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.csv: no such file" in refusal(str(tmp_path / "nowhere.csv"))
