"""The bench of decision rules: leaving stages out keeps what is left, and records say enough."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_outcomes import random_costs, random_table

from adaptive.policy import evaluate, single_stage, tier_alone

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benchmarks" / "records" / "rules.json"
MODULES = ("bench", "rules", "tables")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "rules"))
    import bench

    yield bench
    for name in MODULES:  # their names are too plain to stay importable
        sys.modules.pop(name, None)


def test_a_cascade_without_some_exits_runs_their_layers_all_the_same(bench: Any) -> None:
    table, costs = random_table(0), random_costs(0)
    less, cheaper = bench.without(table, costs, {1, 4, 5})  # mid@0, full@0 and full@2
    assert [(s.tier, s.exit, s.depth) for s in less.stages[1:]] == [
        (1, 0, 1), (1, 1, 3), (2, 0, 4), (2, 1, 6)
    ]  # fmt: skip
    for tier in range(3):
        was = evaluate(tier_alone(table.stages, tier), table, costs)
        now = evaluate(tier_alone(less.stages, tier), less, cheaper)
        assert now.cost == pytest.approx(was.cost) and (now.score == was.score).all()
    gone, _ = bench.without(table, costs, {0})
    assert [s.tier for s in gone.stages] == [0, 0, 0, 1, 1, 1, 1]
    assert evaluate(single_stage(gone.stages, 0), gone, _).score.tolist() == (
        table.worth.score[:, 1].tolist()
    )


def test_a_sequence_of_tests_ends_at_its_first_failure(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, costs = random_table(1), random_costs(1)
    line = [single_stage(table.stages, k) for k in (7, 3, 1, 0)]
    lookup = bench.Lookup.of(table, costs)
    prices = [float(lookup.evaluate(policy).cost.mean()) for policy in line]
    told = iter([0.01, 0.02, 0.5, 0.01])
    monkeypatch.setattr(bench, "p_value", lambda *_: next(told))
    assert bench.certify(line, lookup, 0.9) == line[int(np.argmin(prices[:2]))]
    monkeypatch.setattr(bench, "p_value", lambda *_: 0.06)
    assert bench.certify(line, lookup, 0.9) is None


@pytest.mark.skipif(not RECORD.is_file(), reason="nothing was recorded yet")
def test_the_record_tells_each_rule_with_an_interval_over_seeds() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    sets = [name for name in ("clinc150", "ag_news", "sst2") if name in record]
    assert sets
    figures = ("area", "cost_at_99", "cost_at_995", "accuracy_at_fifth", "certified_cost")
    for name in sets:
        assert record[name]["seeds"] >= 5
        assert len(record[name]["rules"]) > 20 and "ours" in record[name]["rules"]
        for rule in record[name]["rules"].values():
            for each in figures:
                told = rule[each]
                assert told["low"] <= told["mean"] <= told["high"]
        assert "without mid" in record[name]["ablation"]
