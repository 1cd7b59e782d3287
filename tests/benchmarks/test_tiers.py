"""What a tier is worth: cascades of some tiers are look-ups in the outcomes of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_outcomes import DEPTHS, random_table

from adaptive.config import load_recipe
from adaptive.policy.costs import MILLISECONDS, CostTable
from adaptive.policy.lookup import evaluate
from adaptive.types import ALWAYS, NEVER, Policy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tiers

    return tiers


def test_a_cascade_without_a_tier_does_what_a_policy_past_it_does(tiers: Any) -> None:
    table, rng = random_table(0), np.random.default_rng(0)
    pieces = [rng.random((rows, 2)) for rows in (len(DEPTHS), *[len(table.stages)] * 2)]
    costs = CostTable(MILLISECONDS, np.array([1.0, 50.0]), *pieces, router=np.zeros(2))
    of = [k for k, stage in enumerate(table.stages) if stage.tier == 1]
    levels = np.linspace(0.3, 0.8, len(table.stages))
    levels[of] = NEVER
    levels[-1] = ALWAYS
    whole = evaluate(Policy((0, 2), tuple(levels)), table, costs.at(table.tokens))
    less, priced = tiers.of_tiers(table, [0, 2]), tiers.of_tiers_costs(costs, table, [0, 2])
    kept = tuple(np.delete(levels, of))
    part = evaluate(Policy((0, 1), kept), less, priced.at(table.tokens))
    np.testing.assert_allclose(part.cost, whole.cost)
    assert (part.score == whole.score).all() and (part.alike == whole.alike).all()


def test_its_recipes_make_the_tiers_that_are_compared(tiers: Any) -> None:
    for file in (ROOT / "benchmarks" / "recipes" / "tiers").glob("*.yaml"):
        recipe = load_recipe(file)
        names = {each.name for each in (*recipe.small, recipe.last)}
        assert all(set(kept) <= names for kept in tiers.CASCADES.values())
