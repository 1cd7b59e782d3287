"""The benchmark against other runtimes: they serve the very tier, and the record says what ran."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import LABELS, make_cascade, tiny_bert, tiny_texts

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import peer_models
import runtime_cpu
import runtime_peers as benchmark

from adaptive import tokens as token_rows
from adaptive.cascade import answer
from adaptive.policy import tier_alone
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
        found = peer_models.Plain(tier).eval()(ids * mask, mask)
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


@pytest.fixture
def measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> Callable[[], dict[str, Any]]:
    """Runs the section on a tiny bundle, with one peer that is right and two that are not."""
    shutil.copytree(tiny_bundle, tmp_path / "sst2" / "bundle")
    lines = "".join(f"{text},bad\n" for text in tiny_texts(40))
    (tmp_path / "sst2" / "test.csv").write_text(f"text,label\n{lines}")
    monkeypatch.setattr(benchmark, "SAMPLE", 8)
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
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    monkeypatch.setattr(sys, "argv", [])
    return run


def test_peers_are_recorded_beside_what_was_there(
    measure: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    other = {"peer": "x", "data": "ag_news"}
    there = {"breakdown": [1], "peers": [other, {"peer": "x", "data": "sst2"}]}
    (tmp_path / "record.json").write_text(json.dumps(there))
    found = measure()
    assert found["breakdown"] == [1] and found["peers"][0] == other
    lines = found["peers"][1:]
    assert [(line["peer"], line["batch"]) for line in lines] == [
        (peer, batch) for batch in (1, 8) for peer in ("torch eager", "wrong")
    ]
    for line in lines:
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
    for each in told["by_batch"]:
        assert each["peer"] == each["same_dtype"]["peer"] == "torch eager"
    assert told["value"] == min(each["value"] for each in told["by_batch"])
