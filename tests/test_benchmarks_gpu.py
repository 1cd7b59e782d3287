"""The benchmark for a GPU, on the CPU with tiny shapes: every way answers and is told."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import make_cascade, tiny_texts

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import gpu_models
import runtime_gpu as benchmark
from peer_models import Plain

from adaptive.policy import tier_alone


@pytest.fixture
def found(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, Any]:
    monkeypatch.setattr(benchmark, "LEAST", 40)
    data, file = tmp_path / "test.csv", tmp_path / "record.json"
    data.write_text("text,label\n" + "".join(f"{text},bad\n" for text in tiny_texts(60)))
    small = ["--device", "cpu", "--small", "--dtype", "float32", "--shapes", "bert_base"]
    few = ["--rows", "40", "--batches", "1", "8", "--repeats", "1", "--baselines", "eager"]
    own = ["--bundle", str(tiny_bundle), "--data", str(data), "--record", str(file)]
    monkeypatch.setattr(sys, "argv", ["runtime_gpu", *small, *few, *own])
    benchmark.main()
    assert not file.exists()  # a CPU's figures are no record of a GPU
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_every_shape_batch_and_way_has_a_line(found: dict[str, Any]) -> None:
    ways = {
        "bert_base": [
            benchmark.FULL,
            benchmark.SINGLY,
            "half, then 30 %",
            "all at a third",
            "eager",
        ],
        "tiny-cascade": [benchmark.FULL, benchmark.SINGLY, "policy", "eager"],
    }
    places = [(line["shape"], line["batch"], line["way"]) for line in found["lines"]]
    assert places == [
        (shape, batch, way) for shape in ways for batch in (1, 8) for way in ways[shape]
    ]
    for line in found["lines"]:
        assert line["texts_per_second"] > 0 and line["p50_milliseconds"] > 0
        assert line["utilisation"] > 0
        if line["way"] in (benchmark.FULL, benchmark.SINGLY, "eager"):
            assert line["agreement"] == 1.0
        if line["way"] != "eager":
            assert set(line["over"]) == {"eager"}
    assert found["matmul_teraflops"] > 0 and "gpu" not in found


def test_work_saved_is_that_of_the_pattern(found: dict[str, Any]) -> None:
    saved = {line["way"]: line.get("work_saved") for line in found["lines"]}
    assert 0.6 < saved["all at a third"] < 0.68
    assert 0.35 < saved["half, then 30 %"] < 0.55
    assert 0 < saved["policy"] < 1 and saved[benchmark.FULL] is None


def test_graphs_see_few_shapes_and_give_the_same_answers() -> None:
    """What is captured on a GPU is called here, shapes noted."""
    bundle = make_cascade(6)
    rows = benchmark.random_rows(21, 40, 0)
    rows = [row[:30] for row in rows]
    plain, shapes = Plain(copy.deepcopy(bundle.tiers[-1])).eval(), set()

    def noted(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(ids.shape))
        return plain(ids, mask)

    found = gpu_models.padded(noted, bundle.device, gpu_models.WIDTH, whole=True)(rows, 8)
    wanted = gpu_models.ours(bundle, tier_alone(bundle.stages, 2))(rows, 8)
    np.testing.assert_array_equal(found, wanted)
    assert shapes == {(8, 32)} and len(set(found.tolist())) > 1


def test_a_way_that_cannot_run_is_told_and_the_others_go_on() -> None:
    def fails(rows: Any, batch: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ways, left_out = benchmark.usable({"a": lambda rows, batch: np.zeros(1), "b": fails}, [], 1)
    assert list(ways) == ["a"]
    assert left_out == {"b": "OutOfMemoryError: CUDA out of memory"}
