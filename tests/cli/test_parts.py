"""Answers in parts: what a part's file holds, and what an interrupted run still has to do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from pyarrow import parquet

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.cli import parts, predict_ray
from adaptive.cli.predict import answer_items
from adaptive.cli.rows import open_items
from adaptive.config import Preset
from adaptive.errors import ConfigError

SAME = ("tier", "exit", "depth", "entered", "unit", "cost", "windows", "covered", "promise")
JOB = {"file": "a", "text": "text", "keep": {"id": "id"}}


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Any]:
    """A file of five rows, the third without its text, read in parts of two."""
    file = tmp_path / "rows.jsonl"
    lines = [{"text": f"word{n}", "id": n} for n in range(5)]
    lines[2]["text"] = 7
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"file": str(file), "text": "text", "pair": None, "keep": {"id": "id"}, "part_rows": 2}


def read(source: dict[str, Any], done: list[int]) -> dict[int, str]:
    batches = predict_ray.read({"source": [json.dumps({**source, "done": done})]})
    return {batch["part"][0]: batch["items"][0] for batch in batches}


def test_a_part_holds_what_predict_answers_of_its_rows(
    tiny_cascade: Bundle, rows: dict[str, Any]
) -> None:
    pipeline = AdaptivePipeline(tiny_cascade, Preset(bundle="tiny"))
    with open_items(rows["file"], "text", None, rows["keep"]) as items:
        own = list(answer_items(pipeline, list(items), {"top_k": 2}))
    found: list[dict[str, Any]] = []
    for text in list(read(rows, []).values())[:-1]:
        content = parts.answered(pipeline, parts.unpacked(text), {"top_k": 2})
        found += parquet.read_table(io.BytesIO(content)).to_pylist()
    assert [line["row"] for line in found] == [1, 2, 3, 4, 5]
    assert [line["id"] for line in found] == ["0", "1", "2", "3", "4"]
    for line, known in zip(found, own, strict=True):
        assert (line["label"], line["error"]) == (known.get("label"), known.get("error"))
        if line["error"] is None:
            assert [each["label"] for each in line["top_k"]] == [
                each["label"] for each in known["top_k"]
            ]
            told, wanted = line["routing"], known["routing"]
            assert [told[name] for name in SAME] == [wanted[name] for name in SAME]
            assert told["reliability"] == pytest.approx(wanted["reliability"], rel=1e-5)
            assert line["score"] == pytest.approx(known["score"], rel=1e-5)
    assert [line["error"] is None for line in found] == [True, True, False, True, True]


def test_only_parts_that_are_missing_are_read_again_and_how_many_there_are_is_told(
    rows: dict[str, Any],
) -> None:
    assert list(read(rows, [])) == [0, 1, 2, 3] and read(rows, [])[3] == ""
    left = read(rows, [0, 2])
    assert list(left) == [1, 3]
    assert [item.number for item in parts.unpacked(left[1])] == [3, 4]


def test_a_folder_goes_on_with_its_own_job_and_with_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    assert parts.open_folder(folder, JOB) == frozenset()
    items = parts.unpacked('[[1, null, "no text", {"id": "x"}]]')
    parts.write(folder, 3, parts.answered(lambda *_, **__: [], items, {}))
    (folder / ".part-000004.half.part.parquet").write_bytes(b"half")  # of a run that was killed
    assert parts.open_folder(folder, JOB) == {3}
    assert parts.counted(folder) == (1, 1)
    with pytest.raises(ConfigError, match="differs in file, keep"):
        parts.open_folder(folder, {**JOB, "file": "b", "keep": {}})
    with pytest.raises(ConfigError, match="no folder of answers"):
        parts.open_folder(tmp_path, JOB)
