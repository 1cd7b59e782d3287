"""Many policies in one look-up say what each says by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_outcomes import STAGES, random_costs, random_policy, random_table

from adaptive.policy.lookup import Lookup
from adaptive.policy.scan import scan, sweep
from adaptive.policy.targets import mean_excess
from adaptive.types import Groups, Target

ROWS = 90
TARGETS = (
    Target("accuracy_drop", 0.1, group="kind"),
    Target("agreement", 0.2),
    Target("milliseconds", 3.0),
    Target("abstention", 0.1),
)


def drawn(seed: int, rng: np.random.Generator) -> Lookup:
    """Random rows of two kinds out of three, for odd seeds with expected losses."""
    kinds = Groups(("a", "b", "c"), rng.integers(0, 2, ROWS).astype(np.int32))
    table = replace(random_table(seed, ROWS), groups={"kind": kinds})
    drop = rng.normal(0.0, 0.3, (ROWS, len(STAGES))) if seed % 2 else None
    return Lookup.of(table, random_costs(seed, ROWS), drop)


@pytest.mark.parametrize("seed", range(12))
def test_a_scan_says_what_every_threshold_says_by_itself(seed: int) -> None:
    lookup = drawn(seed, np.random.default_rng(seed))
    table, drop = lookup.table, lookup.drop
    policy = random_policy(seed, routed=seed % 3 == 0)
    policy = replace(policy, abstain=0.3) if seed % 4 == 0 else policy
    last = max(k for k in range(len(STAGES)) if policy.on(k))
    for stage in range(last):
        if STAGES[stage].tier not in policy.path:
            continue
        values = sorted({*table.reliability[::7, stage].tolist(), 0.0, 1.0})
        costs, means, errors = scan(lookup, TARGETS, policy, stage, values)
        for place, value in enumerate(values):
            result = lookup.evaluate(policy.with_threshold(stage, value))
            lost = None if drop is None else drop[np.arange(ROWS), result.stage]
            mean, error = mean_excess(TARGETS, result, table, lost)
            assert costs[place] == pytest.approx(result.cost.mean())
            assert means[place] == pytest.approx(mean)
            assert errors[place] == pytest.approx(error, abs=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_a_sweep_says_what_every_policy_of_a_line_says_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lookup = drawn(seed, rng)
    table, drop = lookup.table, lookup.drop
    policy = random_policy(seed, routed=seed % 3 == 0)
    on = [k for k in range(len(STAGES)) if policy.on(k)]
    falling = -np.sort(-rng.choice(table.reliability.ravel(), (30, len(STAGES))), axis=0)
    line = []
    for levels in falling.tolist():
        line.append(policy)
        for stage in on:
            line[-1] = line[-1].with_threshold(stage, levels[stage])
    if seed == 3:  # entry rules differ too
        weights = np.linspace(2.0, 0.0, len(line)).tolist()
        line = [replace(p, risk_weight=w) for p, w in zip(line, weights, strict=True)]
        assert len({tuple(lookup.evaluate(p).entry) for p in line}) > 3
    sums = sweep(lookup, TARGETS[:3], line)
    for place, each in enumerate(line):
        result = lookup.evaluate(each)
        lost = None if drop is None else drop[np.arange(ROWS), result.stage]
        mean, error = mean_excess(TARGETS[:3], result, table, lost)
        assert sums.cost[place] == pytest.approx(result.cost.sum())
        known = sums.count > 0
        found = sums.lost[place][known] / sums.count[known]
        assert found == pytest.approx(mean[known])
        spread = sums.square[place][known] / sums.count[known] - found**2
        assert np.sqrt(np.maximum(spread, 0.0) / sums.count[known]) == pytest.approx(
            error[known], abs=1e-7
        )
