"""Rows of CSV and JSONL: read one by one, bad ones in their place."""

from __future__ import annotations

import io
import json

import pytest

from adaptive.cli.rows import CHUNK_CHARACTERS, CHUNK_ROWS, Row, chunks, read_rows
from adaptive.errors import DataError


def rows_of(data: bytes | str, text: str = "text", pair: str | None = None) -> list[Row]:
    raw = data if isinstance(data, bytes) else data.encode()
    return list(read_rows(io.BytesIO(raw), text, pair))


def test_csv_fields_may_hold_commas_quotes_and_newlines() -> None:
    rows = rows_of('id,text\r\n1,"a, b"\r\n2,"say ""hi""\r\nagain"\r\n3,\r\n')
    assert [row.item for row in rows] == ["a, b", 'say "hi"\r\nagain', ""]
    assert [row.number for row in rows] == [1, 2, 3]


def test_jsonl_is_told_by_its_first_character() -> None:
    rows = rows_of('\n  {"text": "a", "n": 1}\n\n{"text": ""}\n')
    assert [row.item for row in rows] == ["a", ""]


def test_pairs_are_read_from_two_columns() -> None:
    assert rows_of("text,other\na,b\n", pair="other") == [Row(1, ("a", "b"))]
    assert rows_of('{"q": "a", "text": "b"}\n', text="q", pair="text") == [Row(1, ("a", "b"))]


def test_bad_json_lines_are_faults_in_their_place() -> None:
    lines = ['{"text": "a"}', "{broken", "[1]", '{"txt": "b"}', '{"text": 3}', '{"text": null}']
    rows = rows_of("\n".join([*lines, '{"text": "\\ud800"}', '{"text": NaN}', '{"text": "z"}']))
    assert [row.item for row in rows if row.fault is None] == ["a", "z"]
    assert [row.number for row in rows] == list(range(1, 10))
    faults = [row.fault or "" for row in rows]
    assert faults[1] == "not valid JSON"
    assert "found list" in faults[2]
    assert faults[3] == "no 'text'"
    assert "found int" in faults[4] and "found None" in faults[5]
    assert all("text: " in fault for fault in faults[4:8])


def test_bad_csv_rows_are_faults_in_their_place() -> None:
    rows = rows_of(b"id,text\n1,a\n2\n3,b,c\n4,caf\xe9\n5,z\n")
    assert [row.item for row in rows if row.fault is None] == ["a", "z"]
    assert [row.number for row in rows if row.fault is not None] == [2, 3, 4]
    assert rows[2].fault == "3 fields, the header has 2"


def test_a_header_without_the_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="no column 'text' in the header, did you mean 'texts'"):
        rows_of("id,texts\n1,a\n")


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert rows_of(b"\xef\xbb\xbftext\na\n") == [Row(1, "a")]


@pytest.mark.parametrize("data", ["", "\n\n", "text\n"])
def test_no_rows_are_no_rows(data: str) -> None:
    assert rows_of(data) == []


def test_faults_never_quote_the_text() -> None:
    rows = rows_of('{"text": "secret\\ud800"}\n{"secret": 1}\n{secret\n')
    assert all(row.fault for row in rows)
    assert not any("secret" in str(row.fault) for row in rows)


def test_chunks_are_bounded_by_rows_and_by_characters() -> None:
    short = chunks(Row(n, "a") for n in range(CHUNK_ROWS * 2 + 1))
    assert [len(chunk) for chunk in short] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    long = chunks(iter([Row(1, "a" * CHUNK_CHARACTERS), Row(2, "b"), Row(3, ("c", "d"))]))
    assert [len(chunk) for chunk in long] == [1, 2]


def test_rows_are_read_as_they_are_asked_for() -> None:
    class Endless(io.RawIOBase):
        sent = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            line = json.dumps({"text": "x" * 1000}).encode() + b"\n"
            size = min(len(line), len(buffer))
            buffer[:size] = line[:size]
            self.sent += 1
            return size

    source = Endless()
    rows = read_rows(io.BufferedReader(source, buffer_size=2048), "text", None)
    assert next(rows).number == 1
    assert source.sent < 50
