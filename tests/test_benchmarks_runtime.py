"""The benchmark of the runtime, on a tiny model: every section runs and says what it should."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_cascade import tiny_bert, tiny_tokenizer

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import runtime_cpu as benchmark

from adaptive.tiers.backbone import Backbone


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    def load(*given: Any, **options: Any) -> tuple[Backbone, Any]:
        return Backbone(tiny_bert(6)).eval(), tiny_tokenizer()

    monkeypatch.setattr(benchmark, "load_backbone", load)
    monkeypatch.setattr(benchmark, "WORDS", (4, 12))
    monkeypatch.setattr(benchmark, "MAX_LENGTH", 32)
    monkeypatch.setattr(benchmark, "make_texts", _texts)
    file = tmp_path / "record.json"
    few = ["--texts", "20", "--batches", "1", "8", "--repeats", "1", "--record", str(file)]
    monkeypatch.setattr(sys, "argv", ["runtime_cpu", "--shapes", "minilm", *few])
    benchmark.main()
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def _texts(tokenizer: Any, count: int, seed: int) -> list[str]:
    return [f"word{i} " * (1 + i % 13) for i in range(count)]


def test_every_section_is_recorded_for_every_batch(found: dict[str, Any]) -> None:
    assert set(benchmark.SECTIONS) <= set(found) and found["versions"] and found["machine"]
    for name in benchmark.SECTIONS:
        assert {line["batch"] for line in found[name]} == {1, 8}
        assert all(line["shape"] == "minilm" for line in found[name])
    for line in found["realised_over_ideal"]:
        least, most = {"all at a third": (0.66, 0.67)}.get(line["pattern"], (0.35, 0.55))
        assert least < line["work_saved"] < most
    for line in found["breakdown"]:
        parts = ("tokenise", "gather", "segments", "heads", "bookkeeping")
        assert sum(line[part] for part in parts) == pytest.approx(1, abs=1e-3)
        assert all(line[part] > 0 for part in parts[:-1])
