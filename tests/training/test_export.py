"""Builds whose tiers are run by ONNX Runtime: certified so, and the same answers as torch's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_builds import build_in, context_of, recipe_in

from adaptive.bundle.contents import Bundle
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle
from adaptive.engine import answer, exits
from adaptive.errors import BundleError
from adaptive.exits.judging import judge_in_graph
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import outcomes
from adaptive.pipeline import AdaptivePipeline
from adaptive.text import tokens as token_rows
from adaptive.tiers import int8
from adaptive.tiers.store import in_torch
from adaptive.tiers.tier import Tier

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(not int8.available(), reason="this torch build has no int8 kernel")

CHANGES: dict[str, Any] = {"quantise": {"tiers": ["mid"]}, "export": {"tiers": ["mid", "full"]}}
TEXTS = ["the great plot", "a dull cast", "very warm story and film the a"] * 20


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, data, `run` and `bundle`. Not to be changed: copy it."""
    return build_in(tmp_path_factory.mktemp("export"), CHANGES)


@pytest.fixture
def bundle(built: Path) -> Bundle:
    return load_bundle(built / "bundle")


def test_the_named_tiers_run_in_onnx_runtime_and_are_certified_so(bundle: Bundle) -> None:
    assert [tier.in_graphs for tier in bundle.tiers] == [False, True, True]
    assert bundle.dtype == "float32, int8 in mid, ONNX Runtime in mid and full"
    assert bundle.certificate is not None
    assert bundle.certificate.conditions.dtype == bundle.dtype
    # held to torch, even the full tier alone is tested
    assert all(not table.worth.own for table in bundle.outcomes.values())
    assert 0.0 < bundle.certificate.front[0].p_value <= bundle.certificate.delta


def test_answers_are_those_of_torch(built: Path, bundle: Bundle) -> None:
    tokens = token_rows.tokenize(bundle.tokenizer, TEXTS, max_length=16)
    unknown = np.full(len(TEXTS), -1, np.int32)
    plain = replace(bundle, tiers=(*bundle.tiers[:2], in_torch(bundle.tiers[2])))
    found, expected = (outcomes(each, tokens, unknown, 32) for each in (bundle, plain))
    assert np.array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.reliability, expected.reliability, atol=1e-4)
    answers = AdaptivePipeline.from_config(built / "bundle")(TEXTS)
    assert len(answers) == len(TEXTS) and not any("certified" in each for each in answers)


def test_reliabilities_are_reckoned_in_a_graph_for_every_tier(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers as by torch, from the first stage to the last."""
    tokens = token_rows.tokenize(bundle.tokenizer, TEXTS, max_length=16)
    policy = replace(
        bundle.policy, path=(0, 1, 2), thresholds=(2.0,) * (len(bundle.stages) - 1) + (0.0,)
    )
    seen: list[int] = []

    def noted(reliability: Reliability, stage: int, *given: Any) -> Any:
        seen.append(stage)
        return judge_in_graph(reliability, stage, *given)

    monkeypatch.setattr(exits, "judge_in_graph", noted)
    found = answer(bundle, tokens, policy, 8)
    assert set(seen) == set(range(len(bundle.stages)))
    monkeypatch.setattr(Tier, "in_graphs", False)
    expected = answer(bundle, tokens, policy, 8)
    np.testing.assert_array_equal(found.stage, expected.stage)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.reliability, expected.reliability, atol=1e-5)


def test_the_step_tells_what_the_runtime_does_to_each_exit(built: Path) -> None:
    figures = context_of(recipe_in(built, CHANGES), built / "run").figures("export")
    assert list(figures) == ["mid", "full"]
    for told in figures.values():
        for batch in ("batch_1", "batch_32"):
            assert all(each["agreement"] == 1.0 for each in told[batch]["exits"])
            assert told[batch]["time_ratio"] > 0.0
    card = (built / "bundle" / "README.md").read_text()
    assert "In ONNX Runtime: the layers of the full tier" in card


def test_a_changed_graph_is_refused(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "bundle", tmp_path / "bundle"))
    graphs = folder / "tiers" / "full" / "layers"
    shutil.copy(graphs / "00-01.onnx", graphs / "01-02.onnx")
    with pytest.raises(BundleError, match=r"layers/01-02.onnx"):
        load_bundle(folder)
    seal(folder)
    with pytest.raises(BundleError, match=r"tiers/full.*is not the one that was"):
        load_bundle(folder)
    assert load_bundle(folder, uncertified=True).certificate is None
    (graphs / "01-02.onnx").write_text("no graph")
    with pytest.raises(BundleError, match=r"layers/01-02.onnx: is no ONNX graph"):
        seal(folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"export": {"tiers": ["mid"]}, "mid": None}, "export.tiers: the recipe has no mid tier"),
        ({"export": {"tiers": ["tiny"]}}, "export.tiers: tiny is a bag"),
        ({"export": {"tiers": ["full"]}, "cost": {"dtype": "bfloat16"}}, "with export.tiers"),
    ],
)
def test_a_recipe_that_cannot_be_exported_says_why(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        recipe_in(tmp_path, changes)
