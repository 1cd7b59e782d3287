"""The bench of decision rules: leaving stages out keeps what is left, and records say enough."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny_outcomes import random_costs, random_table

from adaptive.policy.lookup import Lookup, evaluate, single_stage, tier_alone
from adaptive.types import Target

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benchmarks" / "records" / "rules.json"
MODULES = ("bench", "families", "fitted", "judging", "measures", "ours", "rules", "tables")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "rules"))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:  # their names are too plain to stay importable
        sys.modules.pop(name, None)


def test_a_cascade_without_some_exits_runs_their_layers_all_the_same(bench: Any) -> None:
    table, costs = random_table(0), random_costs(0)
    less, cheaper = bench["tables"].without(table, costs, {1, 4, 5})  # mid@0, full@0 and full@2
    assert [(s.tier, s.exit, s.depth) for s in less.stages[1:]] == [
        (1, 0, 1), (1, 1, 3), (2, 0, 4), (2, 1, 6)
    ]  # fmt: skip
    for tier in range(3):
        was = evaluate(tier_alone(table.stages, tier), table, costs)
        now = evaluate(tier_alone(less.stages, tier), less, cheaper)
        assert now.cost == pytest.approx(was.cost) and (now.score == was.score).all()
    gone, _ = bench["tables"].without(table, costs, {0})
    assert [s.tier for s in gone.stages] == [0, 0, 0, 1, 1, 1, 1]
    assert evaluate(single_stage(gone.stages, 0), gone, _).score.tolist() == (
        table.worth.score[:, 1].tolist()
    )


def test_a_sequence_of_tests_ends_at_its_first_failure(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = Lookup.of(random_table(1), random_costs(1))
    line = [single_stage(lookup.table.stages, k) for k in (7, 3, 1, 0)]
    rule = bench["rules"].Rule("", "", lookup, lambda _: line)
    prices = [float(lookup.evaluate(policy).cost.mean()) for policy in line]
    told = iter([0.01, 0.02, 0.5, 0.01])
    judging = bench["judging"]
    monkeypatch.setattr(judging, "p_value", lambda *_: next(told))
    target = Target("accuracy_drop", 0.01)
    found = judging.certify(rule, line, lookup, target, 0.9)
    assert found == line[int(np.argmin(prices[:2]))]
    monkeypatch.setattr(judging, "p_value", lambda *_: 0.06)
    assert judging.certify(rule, line, lookup, target, 0.9) is None


def test_conformal_risk_control_ends_before_the_first_policy_that_risks_too_much(
    bench: Any,
) -> None:
    cost, lost = np.array([5.0, 4.0, 3.0, 2.0]), np.array([0.0, 0.004, 0.02, 0.0])
    choose = bench["rules"].conformally
    assert choose(0.01, 1.0, lost, lost, cost, 1000) == 1  # and not the last, which keeps it
    assert choose(0.01, 1.0, lost, lost, cost, 100) == 0  # 1 / 101 is what a row to come may lose
    assert bench["rules"].within_margin(0.01, 1.0, lost, 0.0 * lost, cost, 1000) == 3


def test_cascade_routing_stops_skips_or_goes_on_by_what_is_expected(bench: Any) -> None:
    families, table, costs = bench["families"], random_table(2), random_costs(2)
    lasts = families.lasts_of(table.stages)
    after = np.ones((len(table), 3, 3), np.float32)
    after[:, :, 2] = 0.0
    after[:, 0, :2] = (0.3, 0.2)
    after[:, 1, 1] = 0.1  # once it has answered, mid is surer
    costs = bench["tables"].dearer(table, costs, 10.0)
    lookup = Lookup.of(replace(table, risk=after.reshape(len(table), 9)), costs)
    run = lookup.run[:, lasts]
    base = families.priced(lookup)[0]

    def did(worth: float) -> Any:
        return families.cascade_routing(lookup, replace(base, risk_weight=worth))

    assert (did(1e-9).stage == lasts[0]).all() and did(1e-9).cost == pytest.approx(run[:, 0])
    assert (did(1e9).stage == lasts[2]).all()
    assert did(1e9).cost == pytest.approx(run[:, 0] + run[:, 2])  # mid is passed over
    middle = np.mean([run[:, 1].mean() / 0.1, (run[:, 2] - run[:, 1]).mean() / 0.2])
    between = did(float(middle))
    assert (between.stage == lasts[1]).all()
    assert between.cost == pytest.approx(run[:, 0] + run[:, 1])
    alone = tier_alone(table.stages, 1)
    assert (families.cascade_routing(lookup, alone).cost == lookup.evaluate(alone).cost).all()


def test_the_oracle_is_right_where_any_stage_is_and_costs_least_there(bench: Any) -> None:
    families, lookup = bench["families"], Lookup.of(random_table(3), random_costs(3))
    policies = families.priced(lookup)
    cheap, dear = (families.hindsight(lookup, policy) for policy in (policies[0], policies[-1]))
    assert (dear.score == lookup.table.worth.score.max(1)).all()
    assert cheap.cost.mean() < dear.cost.mean() and cheap.score.mean() <= dear.score.mean()


def test_a_router_of_two_tiers_sends_every_share_to_either(bench: Any) -> None:
    table = random_table(4)
    risk = np.zeros((len(table), 3), np.float32)
    risk[:, 0] = np.random.default_rng(0).random(len(table))
    lookup = Lookup.of(replace(table, risk=risk), random_costs(4))
    policies = bench["families"].routed((0, 2))(lookup)
    shares = sorted(float((lookup.evaluate(each).entry == 2).mean()) for each in policies[:-2])
    assert shares[0] < 0.05 and shares[-1] > 0.95 and np.diff(shares).max() < 0.05


def test_factorised_scores_tell_which_tier_is_worse(bench: Any) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(800, 6))
    odds = np.column_stack([2.0 * rows[:, 0] - 1.0, rows[:, 0] - 1.0, np.full(800, -np.inf)])
    worse = draw.random((800, 3)) < 1.0 / (1.0 + np.exp(-odds))
    risk = bench["fitted"]._factorised((rows[:400], rows[400:]), worse[:400])
    assert not risk[:, 2].any()
    for tier in (0, 1):
        assert roc_auc_score(worse[400:, tier], risk[:, tier]) > 0.65
        assert abs(risk[:, tier].mean() - worse[400:, tier].mean()) < 0.08


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
