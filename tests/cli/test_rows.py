"""Rows of files and of stdin as items: read one by one, bad ones in their place."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from adaptive.cli.rows import CHUNK_CHARACTERS, CHUNK_ROWS, Item, chunks, open_items
from adaptive.errors import DataError


@pytest.fixture
def items_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Item]]:
    """Items of what stdin holds."""

    def read(data: bytes | str, *given: Any) -> list[Item]:
        raw = data if isinstance(data, bytes) else data.encode()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
        with open_items("-", *(given or ("text", None))) as items:
            return list(items)

    return read


def test_csv_fields_may_hold_commas_quotes_and_newlines(items_of: Any) -> None:
    items = items_of('id,text\r\n1,"a, b"\r\n2,"say ""hi""\r\nagain"\r\n3,\r\n')
    assert [item.text for item in items] == ["a, b", 'say "hi"\r\nagain', ""]
    assert [item.number for item in items] == [1, 2, 3]


def test_jsonl_is_told_by_its_first_character(items_of: Any) -> None:
    items = items_of('\n  {"text": "a", "n": 1}\n\n{"text": ""}\n')
    assert [item.text for item in items] == ["a", ""]
    items = items_of('[{"text": "a"}, {"text": 1}]')
    assert [item.text for item in items] == ["a", None]


def test_pairs_are_read_from_two_columns(items_of: Any) -> None:
    assert items_of("text,other\na,b\n", "text", "other") == [Item(1, ("a", "b"))]
    assert items_of('{"q": "a", "text": "b"}\n', "q", "text") == [Item(1, ("a", "b"))]


def test_bad_json_lines_are_faults_in_their_place(items_of: Any) -> None:
    lines = ['{"text": "a"}', "{broken", "[1]", '{"txt": "b"}', '{"text": 3}', '{"text": null}']
    lines += ['{"text": "\\ud800"}', '{"text": NaN}', '{"text": "b", "text": "c"}', '{"text": "z"}']
    items = items_of("\n".join(lines))
    assert [item.text for item in items if item.fault is None] == ["a", "z"]
    assert [item.number for item in items] == list(range(1, 11))
    faults = [item.fault or "" for item in items]
    assert faults[1] == "malformed JSON at character 2"
    assert "found list" in faults[2]
    assert faults[3] == "no column 'text' among 1; the nearest is column 1 (length 3)"
    assert "found int" in faults[4] and "found None" in faults[5]
    assert all("text: " in fault for fault in faults[4:8])
    assert faults[8] == "a key stands twice in an object"


def test_bad_csv_rows_are_faults_in_their_place(items_of: Any) -> None:
    items = items_of(b"id,text\n1,a\n2\n3,b,c\n4,caf\xe9\n5,z\n")
    assert [item.text for item in items if item.fault is None] == ["a", "z"]
    assert [item.number for item in items if item.fault is not None] == [2, 3, 4]
    assert (items[2].fault or "").startswith("3 fields, the header has 2")


def test_columns_are_kept_under_the_names_given(items_of: Any) -> None:
    (item, bad) = items_of("id,text,n\n1,a,x\n2,b\n", "text", None, {"n": "m", "id": "id"})
    assert item.kept == {"m": "x", "id": "1"}
    assert bad.fault is not None and bad.kept == {"m": None, "id": None}
    (item, bad) = items_of('{"text": "a", "id": [1]}\n{"text": 3}', "text", None, {"id": "id"})
    assert item.kept == {"id": [1]} and bad.kept == {"id": None}
    with pytest.raises(DataError, match="no column 'nosuch' among 2"):
        items_of("id,text\n1,a\n", "text", None, {"nosuch": "nosuch"})


def test_a_byte_order_mark_is_no_part_of_the_first_column(items_of: Any) -> None:
    assert items_of(b"\xef\xbb\xbftext\na\n") == [Item(1, "a")]


@pytest.mark.parametrize("data", ["", "\n\n", "text\n"])
def test_no_rows_are_no_rows(items_of: Any, data: str) -> None:
    assert items_of(data) == []


def test_faults_never_quote_the_text(items_of: Any) -> None:
    items = items_of('{"text": "secret\\ud800"}\n{"secret": 1}\n{secret\n')
    assert all(item.fault for item in items)
    assert not any("secret" in str(item.fault) for item in items)


def test_chunks_are_bounded_by_rows_and_by_characters() -> None:
    short = chunks(Item(n, "a") for n in range(CHUNK_ROWS * 2 + 1))
    assert [len(chunk) for chunk in short] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    long = chunks(iter([Item(1, "a" * CHUNK_CHARACTERS), Item(2, "b"), Item(3, ("c", "d"))]))
    assert [len(chunk) for chunk in long] == [1, 2]


def test_rows_are_read_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
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
    buffer = io.BufferedReader(source, buffer_size=2048)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
    with open_items("-", "text", None) as items:
        assert next(items).number == 1
    assert source.sent < 50
    assert not buffer.closed
