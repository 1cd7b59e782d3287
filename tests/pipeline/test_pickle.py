"""A pipeline goes to other processes as what it was opened from, and is opened again there."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.pipeline import AdaptivePipeline
from adaptive.text.tokens import pack, tokenize
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.store import load_tier, save_tier
from adaptive.training.graphs import write_graphs

TEXTS = tiny_texts(12)


@pytest.fixture
def pipeline(tiny_bundle: Path) -> AdaptivePipeline:
    return AdaptivePipeline.from_config(
        {"bundle": str(tiny_bundle), "batch_size": 4, "errors": "return", "policy": "full"}
    )


def test_a_pipeline_comes_back_with_its_preset(pipeline: AdaptivePipeline) -> None:
    content = pickle.dumps(pipeline)
    assert len(content) < 2000  # no weights
    back = pickle.loads(content)
    assert (back.preset, back.policy) == (pipeline.preset, pipeline.policy)
    assert back(TEXTS) == pipeline(TEXTS)
    assert pickle.loads(pickle.dumps(back))(TEXTS) == pipeline(TEXTS)


def test_what_it_was_opened_with_comes_back(tiny_bundle: Path) -> None:
    opened = AdaptivePipeline.from_config(tiny_bundle, dtype=torch.bfloat16, device="cpu")
    opened.policy = opened.bundle.ladder[0].policy
    back = pickle.loads(pickle.dumps(opened))
    assert back.bundle.dtype == "bfloat16" and back.policy == opened.policy


def test_a_relative_folder_is_found_from_elsewhere(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    opened = AdaptivePipeline.from_config(tiny_bundle.name)
    content = pickle.dumps(opened)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(content)(TEXTS) == opened(TEXTS)


def test_joblib_takes_it(pipeline: AdaptivePipeline, tmp_path: Path) -> None:
    joblib.dump(pipeline, tmp_path / "pipeline")
    assert joblib.load(tmp_path / "pipeline")(TEXTS) == pipeline(TEXTS)


@pytest.mark.slow
def test_a_spawned_process_answers_the_same(pipeline: AdaptivePipeline) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(pipeline, TEXTS).result() == pipeline(TEXTS)


def test_a_bundle_in_memory_has_no_place_to_be_opened_from(tiny_cascade: Bundle) -> None:
    made = AdaptivePipeline(tiny_cascade)
    with pytest.raises(TypeError, match=r"save the bundle with adaptive\.bundle\.store"):
        pickle.dumps(made)
    for other in (copy.copy(made), copy.deepcopy(made)):
        assert other(TEXTS) == made(TEXTS)


def test_a_deep_copy_has_weights_of_its_own(pipeline: AdaptivePipeline) -> None:
    other = copy.deepcopy(pipeline)
    expected = pipeline(TEXTS)
    with torch.no_grad():
        for parameter in other.bundle.tiers[-1].parameters():
            parameter.zero_()
    assert pipeline(TEXTS) == expected != other(TEXTS)
    assert copy.copy(pipeline).bundle is pipeline.bundle


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_tiers_in_int8_and_in_onnx_runtime_are_copied(
    tiny_cascade: Bundle, tmp_path: Path, int8: bool
) -> None:
    pytest.importorskip("onnxruntime")
    save_tier(tiny_cascade.tiers[1], tmp_path)
    plain = load_tier(tmp_path)
    rows = tokenize(tiny_cascade.tokenizer, TEXTS, max_length=tiny_cascade.max_length)
    sample = [pack(rows, np.arange(len(rows)))] if int8 else None
    write_graphs(backbone_of(plain), plain.depths, tmp_path / "layers", sample=sample)
    for graphs in (False, tmp_path / "layers"):
        tier = load_tier(tmp_path, int8=int8, graphs=graphs)
        tiers = (tiny_cascade.tiers[0], tier, tiny_cascade.tiers[2])
        made = AdaptivePipeline(replace(tiny_cascade, tiers=tiers, outcomes={}))
        assert copy.deepcopy(made)(TEXTS) == made(TEXTS)
