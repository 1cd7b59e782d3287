"""The benchmark against other runtimes: they serve the very tier, and the record says what ran."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import LABELS, make_cascade, tiny_bert, tiny_texts
from tiny_outcomes import random_table

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import peer_memory
import peer_models
import records
import runtime_cpu
import runtime_peers as benchmark

from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import save_bundle
from adaptive.engine import answer
from adaptive.policy.lookup import tier_alone
from adaptive.policy.worth import graded
from adaptive.text import tokens as token_rows
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch


@pytest.mark.parametrize("own_head", [False, True])
def test_padded_batches_get_the_logits_of_the_tier(own_head: bool) -> None:
    torch.manual_seed(0)
    tier = Tier("full", Backbone(tiny_bert(2)), (0, 2), LABELS, own_head=own_head).eval()
    ids, lengths = torch.randint(1, 40, (2, 9)), np.array([9, 4])
    mask = (torch.arange(9) < torch.from_numpy(lengths)[:, None]).long()
    packed = TokenBatch(ids[mask.bool()], lengths, None)
    with torch.inference_mode():
        state = tier.embed(packed)
        for exit in range(2):
            state = tier.advance(state, exit)
        wanted = tier.answer(state, 1)[0]
        found = peer_models.Plain(copy.deepcopy(tier)).eval()(ids * mask, mask)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["transformers pipeline", "torch eager"])
def test_a_peer_answers_what_the_full_tier_answers_in_the_order_of_the_texts(
    tmp_path: Path, name: str
) -> None:
    texts, bundle = tiny_texts(20), make_cascade(6)
    rows = token_rows.tokenize(bundle.tokenizer, texts, max_length=32)
    wanted = answer(bundle, rows, tier_alone(bundle.stages, 2), 8)
    shop = peer_models.Shop(bundle, tmp_path, texts, 1)
    found = peer_models.PEERS[name].make(shop)(texts, 8)
    assert found.tolist() == wanted.probabilities.argmax(1).tolist()
    assert len(set(found.tolist())) == 3


def peaks(names: list[str], *given: Any) -> dict[str, dict[int, int]]:
    """The policy holds twice as much as its peer; the process of the wrong one fails."""
    assert names == ["torch eager", "wrong", "policy", "full only", "single tier"]
    held = {"torch eager": 1, "policy": 2, "full only": 3}
    return {
        name: {1: held[name] << 20, 8: held[name] << 21} if name in held else {} for name in names
    }


@pytest.fixture
def measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> Callable[[], dict[str, Any]]:
    """Runs the section on a tiny bundle, with one peer that is right and two that are not."""
    shutil.copytree(tiny_bundle, tmp_path / "sst2" / "bundle")
    lines = "".join(f"{text},bad\n" for text in tiny_texts(40))
    (tmp_path / "sst2" / "test.csv").write_text(f"text,label\n{lines}")
    monkeypatch.setattr(benchmark, "SAMPLE", 8)
    # processes of their own would not know the peers that are made up here
    monkeypatch.setattr(benchmark, "measure_peaks", peaks)
    # the tiny bundle holds no outcomes
    monkeypatch.setattr(benchmark, "strongest_small", lambda bundle: (1, 0.97))
    eager = peer_models.PEERS["torch eager"]
    wrong = peer_models.Peer(
        "torch", "int8", lambda shop: lambda texts, batch: np.full(len(texts), 9)
    )
    absent = peer_models.Peer("no-such-package", "int8", eager.make)
    chosen = {"torch eager": eager, "wrong": wrong, "absent": absent}
    monkeypatch.setattr(benchmark, "PEERS", chosen)

    def run() -> dict[str, Any]:
        file, folder = tmp_path / "record.json", str(tmp_path)
        told = ["--bundles", folder, "--data", folder, "--sets", "sst2", "--record", str(file)]
        few = ["--texts", "20", "--batches", "1", "8", "--repeats", "1"]
        sys.argv = ["runtime_cpu", "--only", "peers", "--peers", *chosen, *told, *few]
        runtime_cpu.main()
        record = json.loads(file.read_text())
        assert record.get("breakdown") in (None, [1])  # other sections are left alone
        found: dict[str, Any] = record["cpus"][records.processor()]
        assert found["flags"] == records.flags()
        return found

    monkeypatch.setattr(sys, "argv", [])
    return run


def test_peers_are_recorded_beside_what_was_there(
    measure: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    other = {"peer": "x", "data": "ag_news"}
    here = {"peers": [other, {"peer": "x", "data": "sst2"}]}
    there = {"breakdown": [1], "cpus": {"another": here, records.processor(): here}}
    (tmp_path / "record.json").write_text(json.dumps(there))
    found = measure()
    kept = json.loads((tmp_path / "record.json").read_text())["cpus"]["another"]
    assert kept == here and found["peers"][0] == other
    lines = found["peers"][1:]
    assert [(line["peer"], line["batch"]) for line in lines] == [
        (peer, batch) for batch in (1, 8) for peer in ("torch eager", "wrong")
    ]
    for line in lines:
        right = line["peer"] == "torch eager"
        assert line["peak_memory_ratio"] == (2.0 if right else None)
        assert line["agreement"] == (1.0 if line["peer"] == "torch eager" else 0.0)
        if line["peer"] == "torch eager":
            assert min(line["texts_per_second_ratio"], line["p50_ratio"], line["p99_ratio"]) > 0
    told = found["certified_over_fastest_peer"]["sst2"]
    assert list(told["left_out"]) == ["absent"] and told["measured"]["threads"] == 1


def test_the_fastest_peer_is_one_that_serves_the_same_model(
    measure: Callable[[], dict[str, Any]],
) -> None:
    told = measure()["certified_over_fastest_peer"]["sst2"]
    assert told["policy"].startswith("uncertified")
    assert told["single_tier"] == {"name": "mid", "kept": 0.97}
    assert told["by_batch"][1]["peak_megabytes"] == {"policy": 4, "full only": 6}
    for each in told["by_batch"]:
        assert sum(each["breakdown"].values()) == pytest.approx(1, abs=1e-3)
        assert each["peer"] == each["same_dtype"]["peer"] == "torch eager"
        assert min(each["over_single"].values()) > 0.0
    assert told["value"] == min(each["value"] for each in told["by_batch"])


def test_the_strongest_small_tier_is_the_one_that_keeps_most_before_the_full_one(
    tiny_cascade: Bundle,
) -> None:
    table = random_table(0, rows=10)  # its tiers end at stages 0, 3 and 7
    score = np.zeros((10, len(table.stages)))
    score[:, 2] = 1.0
    score[:5, 0], score[:7, 3], score[:8, 7] = 1.0, 1.0, 1.0
    table = replace(table, worth=graded(score))
    bundle = replace(tiny_cascade, outcomes={"search": table})
    assert benchmark.strongest_small(bundle) == (1, pytest.approx(7 / 8))


@pytest.mark.parametrize("way", ["policy", "full only", "torch eager"])
def test_a_way_that_is_opened_for_its_memory_answers_the_same(
    tiny_cascade: Bundle, tiny_bundle: Path, tmp_path: Path, way: str
) -> None:
    texts = tiny_texts(20)
    save_bundle(peer_memory.full_alone(tiny_cascade), tmp_path / "alone", card="", recipe="")
    source = tiny_bundle if way == "policy" else tmp_path / "alone"
    job = {"way": way, "bundle": str(source), "folder": str(tmp_path), "threads": 1}
    found = peer_memory.open_way(job)(texts, 8)
    own = benchmark.ours(tiny_cascade, tmp_path, 1)["policy" if way == "policy" else "full only"]
    assert found.tolist() == own(texts, 8).tolist()
    told = peer_memory.serve_job(job | {"texts": texts, "batches": [1, 8]})
    assert 0 < told[1] <= told[8]


def test_peers_that_serve_a_file_load_no_weights(tiny_bundle: Path, tiny_cascade: Bundle) -> None:
    light = peer_memory.weightless(tiny_bundle)
    assert light.tiers == () and light.max_length == tiny_cascade.max_length
    assert light.tokenizer("word1 word2").input_ids == [2, 5, 6, 3]


@pytest.mark.slow  # two processes
def test_memory_is_that_of_a_process_of_its_own(tiny_bundle: Path, tmp_path: Path) -> None:
    ballast = np.ones(2**30, dtype=np.int8)  # a parent's memory is not a child's
    found = peer_memory.measure_peaks(
        ["policy", "torch eager", "no such peer"], tiny_bundle, tmp_path, tiny_texts(20), [8, 1], 1
    )
    assert found["no such peer"] == {}
    for name in ("policy", "torch eager"):
        assert 2**26 < found[name][1] <= found[name][8] < len(ballast)
