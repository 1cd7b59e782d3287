"""What commands write is whole or not there, and never in place of what they read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from adaptive.cli.outputs import check_output
from adaptive.errors import ConfigError
from adaptive.outputs import replacing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.csv"
    file.write_text("text\na\n")
    return file


def refusal(output: Path | None, *inputs: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_output(output, inputs)
    return str(caught.value)


def test_an_output_that_is_an_input_is_refused_whatever_it_is_called(file: Path) -> None:
    link, twin = file.with_name("link.csv"), file.with_name("twin.csv")
    link.symlink_to(file)
    os.link(file, twin)
    for output in (file, link, twin, file.parent / "." / "f.csv"):
        assert "is the input itself" in refusal(output, "other", file)
    check_output(file.with_name("new.csv"), [file, "-", "owner/name"])
    check_output(None, [file])


def test_an_output_that_has_no_place_is_refused(file: Path, tiny_bundle: Path) -> None:
    assert "is a folder" in refusal(file.parent)
    assert "there is no folder" in refusal(file.parent / "none" / "out.jsonl")
    assert "lies in the bundle" in refusal(tiny_bundle / "out.jsonl", tiny_bundle)
    assert "lies in the bundle" in refusal(tiny_bundle / "tiers" / "out.jsonl", tiny_bundle)
    check_output(Path(os.devnull), [file])


def test_what_cannot_be_written_to_is_refused_before_anything_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied: list[Path] = [file]
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in denied)
    assert "is there and cannot be written to" in refusal(file, "other.csv")
    denied[:] = [file.parent]
    assert "the folder" in refusal(file.with_name("new.csv"), file)


def test_a_new_file_takes_the_place_of_the_old_one_at_the_end_alone(file: Path) -> None:
    file.chmod(0o640)
    with replacing(file) as part:
        part.write_text("new")
        assert file.read_text() == "text\na\n"
    assert file.read_text() == "new" and stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(OSError, match="full"), replacing(file) as part:
        part.write_text("half")
        raise OSError("the disk is full")
    assert file.read_text() == "new"
    assert [each.name for each in file.parent.iterdir()] == ["f.csv"]


def test_a_link_is_kept_and_a_device_is_written_itself(file: Path) -> None:
    link = file.with_name("link.csv")
    link.symlink_to(file)
    with replacing(link) as part:
        part.write_text("new")
    assert link.is_symlink() and file.read_text() == "new"
    with replacing(Path(os.devnull)) as part:
        assert part == Path(os.devnull)
