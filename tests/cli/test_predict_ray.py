"""`adaptive predict --ray` on a small cluster, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from pyarrow import parquet
from tiny_cascade import tiny_texts
from typer.testing import CliRunner

from adaptive.cli import app, parts
from adaptive.cli.predict_ray import job_of

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "text": "text",
    "pair": None,
    "keep": {"id": "id"},
    "part_rows": parts.PART_ROWS,
    "device": None,
    "uncertified": False,
}


def answered(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("part-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


@pytest.mark.slow
def test_on_ray_an_interrupted_run_goes_on_and_answers_as_predict_does_here(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    file, here, folder = tmp_path / "rows.jsonl", tmp_path / "here.jsonl", tmp_path / "answers"
    lines: list[dict[str, Any]] = [{"text": text, "id": text} for text in tiny_texts(5000, 3)]
    lines[4500]["text"] = 7
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["predict", str(tiny_bundle), str(file), "--keep", "id", "--output"]
    assert CliRunner().invoke(app, [*given, str(here)]).exit_code == 1  # a row was refused

    job = job_of(str(file), str(tiny_bundle), tiny_bundle, OPTIONS)
    assert parts.open_folder(folder, job) == frozenset()
    first = parts.unpacked(
        json.dumps([[n, None, "from before", {"id": ""}] for n in range(1, 4097)])
    )
    parts.write(folder, 0, parts.answered(lambda *_, **__: [], first, {}))
    on_ray = [sys.executable, "-m", "adaptive", *given, str(folder), "--ray"]
    done = subprocess.run(on_ray, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "1 parts are done" in done.stderr, done.stderr

    own = [json.loads(line) for line in here.read_text().splitlines()]
    found = answered(folder)
    assert [row["row"] for row in found] == list(range(1, 5001))
    assert {row["error"] for row in found[:4096]} == {"from before"}
    for row, known in zip(found[4096:], own[4096:], strict=True):
        assert all(row[name] == known.get(name) for name in ("id", "label", "error"))
    assert [row["row"] for row in found[4096:] if row["error"]] == [4501]
