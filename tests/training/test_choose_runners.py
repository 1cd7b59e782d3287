"""Runners are chosen by measurement: the quickest, or the plainest of those about as quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_builds import favouring, recipe_in, write_data, write_model

from adaptive.bundle.store import load_bundle
from adaptive.config import load_recipe
from adaptive.config.tiers import upgraded
from adaptive.pipeline import AdaptivePipeline
from adaptive.tiers import int8
from adaptive.training.build import build
from adaptive.training.choose_runners import sentence
from adaptive.training.learn import runners as learn_runners
from adaptive.training.learn.runners import quickest


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        ({"torch": 1.0}, "torch"),
        ({"torch": 1.0, "torch-int8": 0.99}, "torch"),  # within the noise
        ({"torch-int8": 0.5, "torch": 1.0, "onnxruntime": 0.7}, "torch-int8"),
        ({"torch": 1.0, "torch-int8": 0.505, "onnxruntime-int8": 0.5}, "torch-int8"),
        ({"torch": 1.0, "torch-int8": 0.6, "onnxruntime-int8": 0.5}, "onnxruntime-int8"),
    ],
)
def test_the_quickest_is_chosen_and_a_plainer_one_where_they_are_alike(
    took: dict[str, float], expected: str
) -> None:
    assert quickest(took) == expected


def test_the_card_tells_what_was_measured_and_what_was_left_out() -> None:
    figures = {
        "runner": "torch-int8",
        "milliseconds": {"torch": 4.0, "torch-int8": 2.0},
        "left_out": {"torch-bfloat16": "this CPU has none"},
        "exits": [{"agreement": 0.5}, {"agreement": 0.9876}],
        "batch_size": 32,
        "processor": "a CPU",
        "threads": 1,
    }
    assert sentence("full", figures) == (
        "Runner of the full tier: torch-int8, the quickest on a CPU with 1 thread in batches of "
        "32: 2 ms a text (torch 4). 98.76% of torch's answers stayed. Left out: torch-bfloat16, "
        "because this CPU has none."
    )


@pytest.mark.slow
@pytest.mark.skipif(not int8.available(), reason="this torch build has no int8 kernel")
@pytest.mark.parametrize("runner", ["onnxruntime-int8", "torch-bfloat16"])
def test_a_bundle_is_recorded_certified_and_served_by_the_runner_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    """In bfloat16, which torch computes on any CPU, if slowly."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setattr("adaptive.tiers.runners.has_bfloat16", lambda: True)
    monkeypatch.setattr(learn_runners, "milliseconds", favouring(runner))
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    told: dict[str, Any] = upgraded(recipe_in(tmp_path).model_dump(mode="json"))
    told["tiers"][2]["serve"] = "auto"
    build(load_recipe(told), tmp_path / "run", quiet=True)
    bundle = load_bundle(tmp_path / "bundle")
    last = bundle.tiers[-1]
    assert (last.in_graphs and last.int8) == (runner == "onnxruntime-int8")
    assert (
        bundle.dtype
        == {
            "onnxruntime-int8": "float32, int8 in full, ONNX Runtime in full",
            "torch-bfloat16": "bfloat16, float32 in tiny and mid",
        }[runner]
    )
    # held to torch in float32: even the full tier alone is tested
    assert all(not table.worth.own for table in bundle.outcomes.values())
    assert bundle.certificate is not None
    assert bundle.certificate.conditions.dtype == bundle.dtype
    texts = ["the great plot", "a dull cast", "very warm story and film the a"] * 5
    answers = AdaptivePipeline(bundle)(texts)
    assert len(answers) == 15 and np.isfinite([each["score"] for each in answers]).all()
