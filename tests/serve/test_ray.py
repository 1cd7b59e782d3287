"""The server on a small Ray cluster, in processes of its own."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("ray", reason="needs the extra `ray`")

from tiny_cascade import tiny_texts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_reload_and_a_replica_that_is_killed_lose_and_double_no_answer_of_the_pipeline(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    texts, record = tmp_path / "texts.csv", tmp_path / "record.json"
    with texts.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([each] for each in tiny_texts(1600, 3))])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "benchmarks/serve_ray.py", "--only", "reload", "kill"]
    command += ["--requests", "200", "--port", port]
    given = ["--bundle", str(tiny_bundle), "--texts", str(texts), "--record", str(record)]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reloaded, killed = json.loads(record.read_text())["faults"]
    assert (reloaded["status"], reloaded["reloads"], killed["kills"]) == (200, 2, 1)
    for row in (reloaded, killed):
        assert (row["sent"], row["answered"]) == (200, 200)
        assert (row["lost"], row["doubled"], row["errors_5xx"]) == (0, 0, 0)
