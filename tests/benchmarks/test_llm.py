"""The record of routing between recorded language models, and the routers that it compares with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "benchmarks/records/llm.json").read_text(encoding="utf-8"))


def test_every_entry_says_what_was_promised_and_how_often_it_was_broken() -> None:
    fields = {"table", "tiers", "unit", "level", "verdict", "saving", "oracle", "kept_on_test"}
    for entry in RECORD["tables"]:
        assert fields | {"resplits", "baselines"} <= set(entry)
        deals = entry["resplits"]
        assert deals["n"] == 100 and len(deals["saving_p5_p50_p95"]) == 3
        assert {"wrong", "allowed", "by_error"} <= set(deals)
        assert deals["wrong_of_all"] <= deals["allowed_of_all"]
    assert len({(entry["table"], *entry["tiers"]) for entry in RECORD["tables"]}) >= 6


def test_a_rivals_threshold_keeps_the_level_on_the_rows_it_was_set_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import llm_routers

    random = np.random.default_rng(0)
    told = random.random(500)
    score = np.stack([random.random(500) < told, random.random(500) < 0.9], 1).astype(float)
    cost = np.tile([1.0, 10.0], (500, 1))
    rows = llm_routers.Rows(told, score, cost)
    found = rows.at(llm_routers.level_threshold(rows, 0.05), 0.05)
    assert not found["broken"] and 1.0 < found["saving"] < 10.0
    half = rows.at(llm_routers.share_threshold(rows), 0.05)
    assert half["saving"] == pytest.approx(1 / 0.55, rel=0.02)
    sys.modules.pop("llm_routers")
