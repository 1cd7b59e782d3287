"""One reader for every command: strict, row by row, whatever the form, packing or separator."""

from __future__ import annotations

import csv
import gzip
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from adaptive.config.recipe import DataConfig
from adaptive.errors import DataError
from adaptive.training.data import load_data
from adaptive.training.reading import open_rows
from adaptive.training.records import Row


def read(
    file: Path, content: str | bytes | None = None, columns: Sequence[str] = ("text", "label")
) -> list[Row]:
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_rows(file, columns) as rows:
        return list(rows)


def shown(rows: Sequence[Row]) -> list[tuple[object, ...] | int]:
    """The cells of good rows, the numbers of bad ones."""
    return [row.number if row.fault is not None else row.cells for row in rows]


def refusal(file: Path, content: str | bytes | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(file, content)
    return str(caught.value)


GOOD = [("good", "x"), ("fine", "x"), ("splendid", "x")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # a quote that is opened by mistake spoils its own line alone
        ('good,x\n"bad,y\nfine,x\nsplendid,x\n', [GOOD[0], 2, *GOOD[1:]]),
        ('good,x\n"bad,y\nfine,x\n"splendid",x\n', [GOOD[0], 2, *GOOD[1:]]),
        ('"bad,y\ngood,x\n"bad,y\nfine,x\n', [1, GOOD[0], 3, GOOD[1]]),
        ('good,"y\nfine,x\nbad,"y\nsplendid,x', [1, GOOD[1], 3, GOOD[2]]),
        ('good,x\n"bad,y', [GOOD[0], 2]),
        # text behind a closing quote
        ('"bad" they said,x\ngood,x\n', [1, GOOD[0]]),
        ('"of two\nlines" they said,x\ngood,x\n', [1, GOOD[0]]),
        # too few and too many fields, also across lines
        ("good\ngood,x\ngood,x,y\nfine,x\n", [1, GOOD[0], 3, GOOD[1]]),
        ('"of two\nlines"\ngood,x\n', [1, GOOD[0]]),
        # what is well-formed stays
        (
            '"two\nlines, ""quoted""",x\n\n5" pipe,x\n',
            [('two\nlines, "quoted"', "x"), ('5" pipe', "x")],
        ),
        (" good ,x\n", [(" good ", "x")]),
    ],
)
def test_csv_rows_that_cannot_be_read_are_refused_in_their_place(
    tmp_path: Path, content: str, expected: list[object]
) -> None:
    assert shown(read(tmp_path / "a.csv", "text,label\n" + content)) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_are_read(tmp_path: Path, end: str) -> None:
    lines = ["text,label", "good,x", '"a', 'b",y', "fine,x"]
    rows = read(tmp_path / "a.csv", end.join(lines))
    assert shown(rows) == [("good", "x"), (f"a{end}b", "y"), ("fine", "x")]
    assert [row.line for row in rows] == [2, 3, 5]
    objects = [json.dumps({"text": text, "label": "x"}) for text in ("good", "fine", "splendid")]
    assert shown(read(tmp_path / "a.jsonl", end.join(objects))) == GOOD


@pytest.mark.parametrize(("name", "separator", "told"), [
    ("a.csv", "\t", "tabs"),
    ("a.csv", ";", "semicolons"),
    ("a.csv", "|", "vertical bars"),
    ("a.tsv", ",", "commas"),
    ("a.csv", ",", None),
    ("a.tsv", "\t", None),
])  # fmt: skip
def test_the_separator_is_guessed_from_the_header_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, separator: str, told: str | None
) -> None:
    lines = ["id,label,text", "1,x,good", '2,x,"semi; comma, tab\t and | bar"', "3,x,fine"]
    if separator != ",":
        lines = [line.replace(",", separator, 2) for line in lines]
    with caplog.at_level(logging.INFO):
        rows = read(tmp_path / name, "\n".join(lines))
    assert [row.cells[0] for row in rows] == ["good", "semi; comma, tab\t and | bar", "fine"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ([] if told is None else [f"{tmp_path / name}: read as separated by {told}"])


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_line_before_the_header_may_name_the_separator(tmp_path: Path, line: str) -> None:
    lines = ["text;label", "good;x", "a,b;y"]
    rows = read(tmp_path / "a.csv", "\r\n".join([line, *lines]))
    assert shown(rows) == [("good", "x"), ("a,b", "y")] and [row.line for row in rows] == [3, 4]
    named = refusal(tmp_path / "a.csv", f"{line}\ntext,label\ngood,x\n")
    assert "no column 'text'" in named


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_without_quotes_are_read_as_csv_reads_them(tmp_path: Path, end: str) -> None:
    lines = ["text,label", "good, x", " ,", "", "\tfine\x0b,x\x1c", ",", "a b,x,", "three"]
    rows = read(tmp_path / "a.csv", end.join(lines) + end)
    expected = [row for row in csv.reader(lines[1:]) if row]
    assert [row.cells for row in rows] == [
        tuple(row) if len(row) == 2 else (None, None) for row in expected
    ]
    assert [row.line for row in rows] == [2, 3, 5, 6, 7, 8]


def test_json_is_a_list_of_objects_or_an_object_a_line(tmp_path: Path) -> None:
    objects = [{"text": text, "label": "x"} for text in ("good", "fine", "splendid")]
    assert shown(read(tmp_path / "a.json", json.dumps(objects, indent=2))) == GOOD
    assert shown(read(tmp_path / "a.json", "\n".join(map(json.dumps, objects)))) == GOOD
    rows = read(tmp_path / "a.json", json.dumps([objects[0], 3, {"text": "fine"}]))
    assert shown(rows) == [GOOD[0], 2, 3]
    assert "list of objects" in refusal(tmp_path / "a.json", json.dumps({"data": 1}, indent=1))
    assert "malformed JSON at character" in refusal(tmp_path / "a.json", '[{"text": "secret"')


def test_parquet_is_read_row_by_row_like_the_others(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table(
        {"label": ["x"] * 3, "text": ["good", "fine", "splendid"], "n": [1, 2, 3]}
    )
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert shown(read(tmp_path / "a.parquet")) == GOOD
    with open_rows(tmp_path / "a.parquet", ["text"], ["n"]) as rows:
        assert [(row.number, row.line, row.cells) for row in rows][2] == (3, None, ("splendid", 3))


def test_gzip_is_unpacked_whatever_its_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\ngood,x\nfine,x\nsplendid,x\n")
    assert shown(read(tmp_path / "a.csv.gz", packed)) == GOOD
    assert shown(read(tmp_path / "a.csv", packed)) == GOOD
    assert "named .gz" in refusal(tmp_path / "b.csv.gz", "text,label\n")
    rows = b"text,label\n" + b"".join(b"%d,x\n" % number for number in range(30_000))
    half = gzip.compress(rows)[:-20_000]
    assert "damaged gzip" in refusal(tmp_path / "c.csv.gz", half)
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a", "label": "x"}'))
    data = load_data(DataConfig(source=str(tmp_path)))
    assert data.texts == ["a"] and data.split is not None and data.split.tolist() == ["train"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\ngood,x\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
        ("text,label\ngood,x\n".encode("utf-16-le"), "is UTF-16"),
        ("text,label\ngood,x\n".encode("utf-16-be"), "iconv -f UTF-16 -t UTF-8"),
        ("text,label\ngood,x\n".encode("utf-32"), "is UTF-32"),
        (b"text\0\0,label\nx,x\n", "holds zero bytes"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"PAR1rest", "Parquet"),
        (b"BZh91rest", "bzip2"),
    ],
)
def test_what_is_no_utf8_text_is_told_by_its_name(
    tmp_path: Path, content: bytes, told: str
) -> None:
    for name in ("a.csv", "a.jsonl", "a.json", "bare"):
        assert told in refusal(tmp_path / name, content)


def test_rows_that_are_not_utf8_are_refused_and_the_others_read(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", b"text,label\ngood,x\ncaf\xe9,x\nfine,x\n")
    assert shown(rows) == [GOOD[0], 2, GOOD[1]]
    assert (rows[1].fault or "").startswith("not UTF-8, byte 0xe9 at character 4 of the line")
    told = "line 1: not UTF-8, byte 0xe9 at character 15 of the line"
    assert told in refusal(tmp_path / "b.csv", b"text,label,caf\xe9\ngood,x,y\n")
    assert shown(read(tmp_path / "c.csv", "text,label\nz\0,x\n")) == [("z\0", "x")]


@pytest.mark.parametrize(
    "content",
    [
        "secret text,also secret\nmore secret,x\n",
        "secret texts, secret labels and secret pairs\n",
        '"secret\n',
        '{"secret": 1}\n',
        "textsecret\tlabelsecret\n",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "bare"])
def test_no_error_quotes_the_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    for settings in ({}, {"where": {"kind": "a"}}, {"rename": {"secre": "b"}}, {"label": None}):
        with pytest.raises(DataError) as caught:
            load_data(DataConfig(source=str(tmp_path / name), **settings))  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)


def test_a_missing_column_is_told_with_the_place_of_the_nearest(tmp_path: Path) -> None:
    message = refusal(tmp_path / "a.csv", "id,texts,label\n1,a,x\n")
    assert "no column 'text' among 3; the nearest is column 2 (length 5)" in message
    assert "name it .jsonl" in refusal(tmp_path / "a.csv", '{"text": "a"}\n')
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "expected one of .csv" in refusal(tmp_path / "a.xlsx", "")


def test_bad_rows_of_a_data_set_are_skipped_where_asked_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.csv"
    file.write_text('text,label,kind\ngood,x,k\n"bad,y,k\n ,x,k\nfine,,k\nfine,x,\nsplendid,x,k\n')
    source = DataConfig(source=str(file), on_bad_row="skip")
    data = load_data(source, groups=["kind"])
    assert data.texts == ["good", "splendid"] and len(data.groups["kind"].index) == 2
    assert data.places[1].endswith("row 6 (line 7)")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("rows skipped: 4") and "row 2 (line 3): malformed CSV" in message
    with pytest.raises(DataError, match=r"row 2 \(line 3\): malformed CSV"):
        load_data(DataConfig(source=str(file)))
    file.write_text("text,label\n ,x\n")
    with pytest.raises(DataError, match="no rows"):
        load_data(source)
