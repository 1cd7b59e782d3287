"""Opening a pipeline: every kind of source, and refusals that name what is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_cascade import tiny_texts

from adaptive import AdaptivePipeline, options, pipeline
from adaptive.bundle.contents import Bundle
from adaptive.config import Preset
from adaptive.errors import BundleError, ConfigError, TargetError

TEXTS = tiny_texts(5)


@pytest.fixture
def preset(tiny_bundle: Path, tmp_path: Path) -> Path:
    file = tmp_path / "preset.yaml"
    file.write_text(
        yaml.safe_dump({"bundle": str(tiny_bundle), "policy": "full", "errors": "return"})
    )
    return file


def test_a_folder_a_preset_and_a_mapping_open_the_same_bundle(
    tiny_bundle: Path, preset: Path, tiny_cascade: Bundle
) -> None:
    for source in (tiny_bundle, str(tiny_bundle), {"bundle": str(tiny_bundle)}):
        pipe = AdaptivePipeline.from_config(source)
        assert pipe.policy == tiny_cascade.policy
        assert pipe(TEXTS)[0]["label"] in tiny_cascade.labels
    values = yaml.safe_load(preset.read_text())
    for source in (preset, str(preset), values, Preset(**values)):
        pipe = AdaptivePipeline.from_config(source)
        answers = pipe([*TEXTS, None])
        assert {each["routing"]["tier"] for each in answers[:-1]} == {"full"}
        assert "None" in answers[-1]["error"]


def test_a_hub_id_is_brought_here(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(source: str, revision: str | None) -> Path:
        asked.append((source, revision))
        return tiny_bundle

    monkeypatch.setattr(pipeline, "resolve", resolve)
    AdaptivePipeline.from_config("someone/cascade")
    AdaptivePipeline.from_config({"bundle": "someone/cascade", "revision": "v1"})
    assert asked == [("someone/cascade", None), ("someone/cascade", "v1")]


def test_a_folder_named_like_a_preset_is_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "bundle.yaml"
    link.symlink_to(tiny_bundle, target_is_directory=True)
    assert AdaptivePipeline.from_config(link)(TEXTS)


@pytest.mark.parametrize(
    ("source", "error", "told"),
    [
        ("", ConfigError, "bundle"),
        (None, ConfigError, "found NoneType"),
        (3, ConfigError, "found int"),
        ("no/such/folder", BundleError, "no/such/folder: no such folder"),
        ("absent.yaml", ConfigError, "absent.yaml: cannot be read"),
        ({}, ConfigError, "bundle: missing"),
        ({"bundle": "x", "batchsize": 3}, ConfigError, "did you mean 'batch_size'"),
        ({"bundle": "x", "device": "gpu"}, ConfigError, "device: 'gpu'"),
        ({"bundle": "x", "batch_size": 0, "overflow": "cut"}, ConfigError, "2 faults"),
    ],
    ids=str,
)
def test_what_cannot_be_opened_is_refused_with_its_fault(
    source: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=re.escape(told)):
        AdaptivePipeline.from_config(source)


def test_an_unknown_policy_is_refused_with_those_there_are(tiny_bundle: Path) -> None:
    with pytest.raises(TargetError, match=r"no policy 'cheap' .*'tiny-cascade'; known: full, cho"):
        AdaptivePipeline.from_config({"bundle": str(tiny_bundle), "policy": "cheap"})
    with pytest.raises(TargetError, match="did you mean 'full'"):
        AdaptivePipeline.from_config({"bundle": str(tiny_bundle), "policy": "ful"})


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda", "'cuda' is not there; .* this machine has 0"),
        ("cuda:1", "'cuda:1' is not there"),
        (0, "'cuda:0' is not there"),
        (torch.device("cuda", 0), "'cuda:0' is not there"),
        ("mps", "'mps' is not there"),
        ("gpu", "'gpu' is none of auto, cpu, cuda"),
        ("meta", "'meta' is none of auto, cpu, cuda"),
        ("cpu:0:1", "is none of auto, cpu, cuda"),
    ],
    ids=str,
)
def test_a_device_that_is_not_there_is_refused(tiny_bundle: Path, device: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        AdaptivePipeline.from_config(tiny_bundle, device=device)
    if isinstance(device, str):
        with pytest.raises(ConfigError):
            AdaptivePipeline.from_config({"bundle": str(tiny_bundle), "device": device})


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("device", ["cpu", "auto", -1, torch.device("cpu"), None])
def test_the_cpu_has_many_names(tiny_bundle: Path, device: Any) -> None:
    pipe = AdaptivePipeline.from_config(tiny_bundle, device=device)
    assert pipe.bundle.device == torch.device("cpu")


def test_auto_takes_the_accelerator_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert options.choose_device("auto") == torch.device("cuda")
    assert options.choose_device(1) == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"'cuda:2' is not there; .* this machine has 2"):
        options.choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert options.choose_device("auto") == torch.device("mps")
    assert options.choose_device(0) == torch.device("mps:0")


@pytest.mark.parametrize("dtype", ["int8", "floaty", torch.int64, torch.float64, ""])
def test_a_dtype_no_cascade_runs_in_is_refused(tiny_bundle: Path, dtype: Any) -> None:
    with pytest.raises(ConfigError, match="is none of auto, float32, float16, bfloat16"):
        AdaptivePipeline.from_config(tiny_bundle, dtype=dtype)


def test_dtypes_have_names_and_values(tiny_bundle: Path) -> None:
    for dtype in ("bfloat16", torch.bfloat16, "torch.bfloat16"):
        assert options.choose_dtype(dtype) is torch.bfloat16
    assert options.choose_dtype("auto") is None
    source = {"bundle": str(tiny_bundle), "dtype": "bfloat16"}
    for given, expected in ((None, torch.bfloat16), ("float32", torch.float32)):
        bundle = AdaptivePipeline.from_config(source, dtype=given).bundle
        assert bundle.tiers[2].backbone.embedding_table.dtype == expected


def test_the_callers_device_and_dtype_are_checked_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="device"):
        AdaptivePipeline.from_config("no/such/folder", device="gpu")
    with pytest.raises(ConfigError, match="dtype"):
        AdaptivePipeline.from_config("no/such/folder", dtype="int8")


def test_a_bundle_without_measured_costs_counts_work(tiny_cascade: Bundle) -> None:
    pipe = AdaptivePipeline(replace(tiny_cascade, costs=None, ladder=(), outcomes={}))
    routing = pipe(TEXTS[0])[0]["routing"]
    assert routing["unit"] == "layers x tokens" and routing["cost"] > 0
    with pytest.raises(TargetError, match="which is empty"):
        AdaptivePipeline(pipe.bundle, Preset(bundle="x", policy="full"))
