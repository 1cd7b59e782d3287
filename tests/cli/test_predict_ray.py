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

from adaptive.cli import app

ROOT = Path(__file__).resolve().parents[2]


def answered(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("part-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


@pytest.mark.slow
def test_a_file_is_answered_on_ray_as_it_is_here_and_an_interrupted_run_goes_on(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    file, here, folder = tmp_path / "rows.jsonl", tmp_path / "here.jsonl", tmp_path / "answers"
    lines: list[dict[str, Any]] = [{"text": text, "id": text} for text in tiny_texts(5000, 3)]
    lines[4500]["text"] = 7
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["predict", str(tiny_bundle), str(file), "--keep", "id"]
    on_ray = [sys.executable, "-m", "adaptive", *given, "--ray", "--output", str(folder)]

    done = subprocess.run(on_ray, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # a row was refused
    assert CliRunner().invoke(app, [*given, "--output", str(here)]).exit_code == 1
    own = [json.loads(line) for line in here.read_text().splitlines()]
    found = answered(folder)
    assert [row["row"] for row in found] == list(range(1, 5001))
    for row, known in zip(found, own, strict=True):
        assert all(row[name] == known.get(name) for name in ("id", "label", "error"))
    assert [row["row"] for row in found if row["error"]] == [4501]

    first, second = sorted(folder.glob("part-*.parquet"))
    second.unlink()
    written = first.stat().st_mtime_ns
    again = subprocess.run(on_ray, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1 and "1 parts are done" in again.stderr
    assert answered(folder) == found and first.stat().st_mtime_ns == written
