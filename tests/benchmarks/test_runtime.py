"""The benchmark of the runtime, on a tiny model: every section runs and says what it should."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_cascade import make_cascade, tiny_bert, tiny_texts, tiny_tokenizer

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import runtime_cases
import runtime_cpu as benchmark
import runtime_parts
from runtime_parts import PARTS, clocks, shares

from adaptive.pipeline import AdaptivePipeline
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.graphs import Graphs
from adaptive.tiers.state import Run


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    return _measured(monkeypatch, tmp_path, ["minilm"], ["1", "8"], list(benchmark.SECTIONS))


def _measured(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shapes: list[str],
    batches: list[str],
    sections: list[str],
) -> dict[str, Any]:
    def load(*given: Any, **options: Any) -> tuple[Backbone, Any]:
        return Backbone(tiny_bert(6)).eval(), tiny_tokenizer()

    monkeypatch.setattr(runtime_cases, "load_backbone", load)
    monkeypatch.setattr(runtime_cases, "WORDS", (4, 12))
    monkeypatch.setattr(runtime_cases, "MAX_LENGTH", 32)
    monkeypatch.setattr(runtime_cases, "make_texts", _texts)
    file = tmp_path / "record.json"
    few = ["--texts", "20", "--repeats", "1", "--record", str(file)]
    chosen = ["--shapes", *shapes, "--batches", *batches, "--only", *sections]
    monkeypatch.setattr(sys, "argv", ["runtime_cpu", *chosen, *few])
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
        assert sum(line[part] for part in PARTS) == pytest.approx(1, abs=1e-3)
        assert all((line[part] == 0) == (part == "route") for part in PARTS[:-1])


def test_layers_in_onnx_runtime_are_a_shape_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[int] = []
    prepare = Graphs.prepare

    def watched(self: Graphs, *given: Any) -> Run:
        runs.append(1)
        return prepare(self, *given)

    monkeypatch.setattr(Graphs, "prepare", watched)
    found = _measured(
        monkeypatch, tmp_path, ["minilm_onnx"], ["8"], ["nothing_exits_overhead", "breakdown"]
    )
    assert {line["shape"] for line in found["nothing_exits_overhead"]} == {"minilm_onnx"}
    assert {line["shape"] for line in found["breakdown"]} == {"minilm_onnx"} and runs


def test_tokenising_ahead_is_timed_against_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> None:
    for name in ("bundles", "data"):
        (tmp_path / name / "sst2").mkdir(parents=True)
    (tmp_path / "bundles" / "sst2" / "bundle").symlink_to(tiny_bundle)
    rows = "".join(f"{text},bad\n" for text in tiny_texts(30))
    (tmp_path / "data" / "sst2" / "test.csv").write_text("text,label\n" + rows)
    where = ["--bundles", str(tmp_path / "bundles"), "--data", str(tmp_path / "data")]
    few = ["--sets", "sst2", "--batches", "1", "2", "--texts", "30", "--repeats", "2"]
    file = tmp_path / "record.json"
    how = ["--only", "ahead", *where, *few, "--record", str(file)]
    monkeypatch.setattr(sys, "argv", ["runtime_cpu", *how])
    benchmark.main()
    lines = json.loads(file.read_text())["ahead"]
    assert [(line["data"], line["batch"]) for line in lines] == [("sst2", 1), ("sst2", 2)]
    assert all(line["value"] > 0 and line["texts"] >= 64 for line in lines)


def test_all_parts_of_a_routed_call_are_told_and_sum_to_the_whole() -> None:
    bundle = make_cascade()
    policy = replace(bundle.policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))
    pipe = AdaptivePipeline(replace(bundle, policy=policy))
    found = shares(lambda: pipe(tiny_texts(60), batch_size=8), 1)
    assert tuple(found) == PARTS and sum(found.values()) == pytest.approx(1)
    assert all(share > 0 for share in found.values())


class Nested:
    @staticmethod
    def outer() -> int:
        return Nested.inner()

    @staticmethod
    def inner() -> int:
        return sum(range(10**6))


def test_a_part_within_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places = ((Nested, "outer", "heads"), (Nested, "inner", "gather"))
    monkeypatch.setattr(runtime_parts, "PLACES", places)
    with clocks() as spent:
        begun = time.process_time()
        Nested.outer()
        whole = time.process_time() - begun
    assert spent["gather"] > 0 and spent["heads"] > 0
    assert spent["gather"] + spent["heads"] <= whole
