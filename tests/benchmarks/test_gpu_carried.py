"""What a GPU is given, and what is done there with it, on the CPU with a tiny cascade."""

from __future__ import annotations

import csv
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cascade import make_cascade, tiny_texts

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from gpu import breakdown, certified, pack, parity
from gpu.bench import Bench
from gpu.watch import unpack

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.measure.recording import outcomes
from adaptive.text import tokens as token_rows

WORDS = 20  # of the tokenizer's 40 that stand in the texts


def texts_of(bundle: Bundle) -> pack.Texts:
    """Labelled by the full tier, but for every fifth."""
    found = {}
    for seed, name in enumerate(pack.SPLITS):
        texts = [f"word{seed} {text}" for text in tiny_texts(60, seed)]
        texts = [" ".join(w for w in text.split() if int(w[4:]) < WORDS) for text in texts]
        table = outcomes(bundle, rows_of(bundle, texts), np.full(60, -1, np.int32), 32)
        labels = (table.reference + (np.arange(60) % 5 == 0)) % len(bundle.labels)
        found[name] = (texts, [bundle.labels[label] for label in labels])
    return found


def rows_of(bundle: Bundle, texts: list[str]) -> token_rows.Tokens:
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, pack.Texts]:
    """Folders of the original bundle and of what was unpacked, and the texts."""
    place, bundle = tmp_path_factory.mktemp("gpu"), make_cascade(6)
    texts = texts_of(bundle)
    own, names = texts["search"]
    labels = np.array([bundle.labels.index(name) for name in names], np.int32)
    bundle = replace(bundle, outcomes={"search": outcomes(bundle, rows_of(bundle, own), labels, 8)})
    save_bundle(bundle, place / "bundle", card=render_card(bundle), recipe="name: tiny\n")
    report = pack.pack(place / "bundle", texts, place)
    assert report["policy"]["labels_alike"] > 0.9 and report["rows"]["certify"] == 60
    (place / "there").mkdir()
    return place / "bundle", unpack(place, place / "there"), texts


def test_the_packed_bundle_answers_like_the_original(
    packed: tuple[Path, Path, pack.Texts],
) -> None:
    original, there, texts = packed
    one, other = load_bundle(original), load_bundle(there / "bundle")
    own = texts["test"][0]
    found = pack.compare(one, other, rows_of(one, own))
    assert found["full"]["labels_alike"] > 0.9 and found["full"]["greatest"] < 0.1
    assert set(other.outcomes) == {"search"}
    assert other.info["steps"]


def test_weights_are_rounded_and_unmet_tokens_are_zero(
    packed: tuple[Path, Path, pack.Texts],
) -> None:
    bundle = load_bundle(packed[1] / "bundle")
    for tier in bundle.tiers:
        table = tier.backbone.embedding_table
        assert table[4 : 4 + WORDS].abs().sum(1).min() > 0
        assert not table[4 + WORDS :].any()
        for weight in tier.parameters():
            assert weight.dtype == torch.float32
            assert torch.equal(weight, weight.bfloat16().float())


def test_texts_are_carried_with_their_labels(packed: tuple[Path, Path, pack.Texts]) -> None:
    for name, (texts, labels) in packed[2].items():
        with (packed[1] / f"{name}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["text"] for row in rows] == texts
        assert [row["label"] for row in rows] == labels


def test_texts_of_another_build_are_refused(
    packed: tuple[Path, Path, pack.Texts], tmp_path: Path
) -> None:
    original, _, texts = packed
    other = {**texts, "search": texts["test"]}
    with pytest.raises(SystemExit, match="search: these are not the rows"):
        pack.pack(original, other, tmp_path)
    assert not (tmp_path / pack.ARCHIVE).exists()


def test_the_very_version_that_a_wheel_requires_is_fetched(tmp_path: Path) -> None:
    wheel = tmp_path / "pydantic-9.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        told = "Name: pydantic\nRequires-Dist: pydantic_core==9.1; python_version > '3'\n"
        files.writestr("pydantic-9.0.dist-info/METADATA", told)
    assert pack.required(wheel, "pydantic-core") == "pydantic_core==9.1"
    with pytest.raises(SystemExit):
        pack.required(wheel, "numpy")


@pytest.fixture(scope="module")
def bench(packed: tuple[Path, Path, pack.Texts]) -> Bench:
    return Bench(torch.device("cpu"), "float32", packed[1], True)


def test_parity_on_a_cpu_is_exact_but_for_rounding(bench: Bench) -> None:
    found = parity.full_tier(bench, "float32")
    names = ("segments_over_own_forward", "batches_over_single_rows")
    for told in [found[name] for name in names]:
        assert set(told["relative_norm"]) == {"depth 0", "depth 2", "depth 3", "logits"}
        assert max(told["relative_norm"].values()) < 1e-5 and told["labels_alike"] == 1.0
    assert found["answers_over_own_forward"]["greatest"] < 1e-5
    assert found["graphs_over_single_launches"]["batch 32"]["greatest"] < 1e-6
    decided = parity.decisions(bench)
    assert decided["float32"]["both_alike"] == 1.0
    assert 0.5 < decided["bfloat16"]["labels_alike"] <= 1.0


def test_the_carried_cascade_is_certified_where_it_is_measured(bench: Bench) -> None:
    found = certified.certify(bench)
    assert found["verdict"] in ("CERTIFIED", "NOT CERTIFIED", "DO NOT ROUTE")
    assert found["n"] == len(set(bench.texts("certify")[0]))  # what is repeated counts once
    assert len(found["front_costs"]) == found["front"]
    subject = certified.certified(bench)
    assert subject.policies["policy"] == subject.bundle.policy != subject.alone
    right = certified.accuracy(bench)
    assert 0.7 < right["full"] < 0.9 and sum(right["stage_shares"].values()) == pytest.approx(1)


def test_a_breakdown_tells_the_dearest_operations(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakdown, "CALLS", 2)
    found = breakdown.profiled(bench, "full only", 8)
    assert found["milliseconds"] > 0 and found["kernels"] == 0  # there is no GPU
    names = [name for name, _, _ in found["top_host"]]
    assert "aten::addmm" in names and len(names) <= breakdown.SHOWN
