"""The YAML reader refuses what a configuration has no use for, and says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptive.config.documents import MAX_BYTES, MAX_DEPTH, Mark, parse_document, read_document
from adaptive.errors import ConfigError


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text)
    return caught.value.faults


def test_plain_values_are_read_as_yaml_reads_them() -> None:
    document = parse_document("a: [1, 2.5, x]\nb: {c: null, d: yes}\ne: '7'\nf: =\n")
    assert document.value == {
        "a": [1, 2.5, "x"],
        "b": {"c": None, "d": True},
        "e": "7",
        "f": "=",
    }


def test_marks_hold_line_and_source_text_of_values_and_keys() -> None:
    marks = parse_document("a:\n  no: off\n  x: [5]\n").marks
    assert marks[("a", False, "[key]")] == Mark(2, "no")
    assert marks[("a", False)] == Mark(2, "off")
    assert marks[("a", "x", 0)] == Mark(3, "5")
    assert marks[("a", "x")] == Mark(3, None)


def test_every_duplicate_alias_and_anchor_is_listed_at_once() -> None:
    faults = faults_of("a: &x 1\nb: *x\na: 2\nc: {d: 1, d: 2}\n")
    assert len(faults) == 4
    assert any("line 1: anchor &x" in fault for fault in faults)
    assert any("line 2: alias *x" in fault for fault in faults)
    assert "line 3: a is given twice" in faults
    assert "line 4: c.d is given twice" in faults


def test_keys_that_yaml_reads_alike_are_duplicates_to_be_quoted() -> None:
    (fault,) = faults_of("rename:\n  no: a\n  off: b\n")
    assert "rename.off is given twice" in fault
    assert "quotes" in fault


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: !!python/object/apply:os.system [x]", "python/object"),
        ("a: !!python/name:os.system ''", "python/name"),
        ("a: !!binary aGk=", "binary"),
        ("a: !!set {b}", "set"),
        ("<<: {a: 1}", "merge key"),
        ("a: 1\n---\nb: 2", "second document"),
        ("? [a]\n: b", "list or mapping as a key"),
        ("a: 2020-13-45", "write it in quotes"),
        ("a: [", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: *nowhere", "alias *nowhere"),
    ],
)
def test_foreign_constructs_are_refused(text: str, part: str) -> None:
    assert any(part in fault for fault in faults_of(text))


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    assert len(faults_of("\n".join(lines))) == 40 + 2 * 39


def test_depth_is_capped() -> None:
    parse_document("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert "nested deeper" in faults_of("[" * 50_000)[0]


def test_size_is_capped_for_text_and_files(tmp_path: Path) -> None:
    text = "#" * (MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="larger"):
        parse_document(text)
    path = tmp_path / "large.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="larger"):
        read_document(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        read_document(tmp_path / "absent.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\u00e9".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 at byte 9"):
        read_document(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_document(path).value == {"name": "x"}
