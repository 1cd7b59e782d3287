"""What a tier is worth: accuracy by exit, and what a certified policy saves with it and without.

    adaptive step benchmarks/recipes/tiers/trec.yaml costs --set data.source=TREC --workdir FOLDER
    python benchmarks/tiers.py --work FOLDER --recipe benchmarks/recipes/tiers/trec.yaml

The recipe makes every tier that is compared, on one full tier and one deal of rows; a cascade of
some of them is a look-up in the same outcomes and costs. The rows that no weight has seen are one
pool: search, certify and test rows, or the splits named. Each deal draws from it rows to search on
and others to certify on, and the mean of the whole pool is what a policy costs. A recipe without a
tier that is compared leaves out the cascades with it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import records
from certificate_errors import CONDITIONS
from numpy.typing import NDArray
from search_price import TARGET, now, table_of

from adaptive.certificate.certify import certify
from adaptive.certificate.claims import Trial
from adaptive.certifying.recertify import full_accuracy, row_seed
from adaptive.config import load_recipe
from adaptive.policy.costs import CostTable
from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.policy.search import search
from adaptive.policy.worth import concatenate
from adaptive.training.measure_costs import read_costs
from adaptive.types import OutcomeTable

HERE = Path(__file__).parent
STREAM = 13  # of the deals' random numbers
CASCADES = {
    "before": ("tiny", "mid", "full"),
    "after": ("tiny", "mid", "deep", "full"),
    "deep in mid's place": ("tiny", "deep", "full"),
    "no mid": ("tiny", "full"),
}
WORDS = {
    "accuracy": "right answers in per cent, by exit of each tier, on the split named; the full "
    "tier's early exits are heads on its frozen states",
    "searched_cost_ratio": "the full tier's mean cost over that of the policy found on the "
    "search rows with two standard errors to spare, on those rows",
    "certified_time_ratio": "the full tier's mean cost on the pool over the certified policy's, by "
    "the measured cost table: the median over deals, with the 5th and 95th percentile",
    "ablation": "the same of other choices of tiers, in the same deals",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["search", "certify", "test"])
    parser.add_argument("--certify", type=int, default=4000, help="rows of a deal, at most")
    parser.add_argument("--deals", type=int, default=20)
    parser.add_argument("--record", type=Path, default=HERE / "records" / "tiers.json")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe)
    names = [tier.name for tier in (*recipe.small, recipe.last)]
    record = records.read(given.record) | {"words": WORDS}
    told = measured(given.work, names, given.splits, given.certify, given.deals)
    record[given.recipe.stem] = told
    records.write(given.record, record)
    print(json.dumps(told, indent=1))


def measured(
    work: Path, names: Sequence[str], splits: Sequence[str], most: int, deals: int
) -> dict[str, Any]:
    """What the record says of a set whose outcomes and costs lie in `work`."""
    tables = {split: table_of(work, split) for split in splits}
    costs = read_costs(work / "costs" / "costs.json")
    pool, rows = concatenate(list(tables.values())), len(tables["search"])
    size = min(most, len(pool) - rows)
    found = {}
    for cascade, kept in CASCADES.items():
        if not set(kept) <= set(names):
            continue
        places = [names.index(name) for name in kept]
        priced = of_tiers_costs(costs, pool, places)
        ratios = [deal(of_tiers(pool, places), priced, n, rows, size) for n in range(deals)]
        found[cascade] = {
            "tiers": kept,
            "searched_cost_ratio": searched(of_tiers(tables["search"], places), priced),
            "certified_time_ratio": spread(np.array(ratios)),
        }
    return {
        "rows": {split: len(table) for split, table in tables.items()} | {"certify_on": size},
        "costs": costs.measured,
        "accuracy": {split: accuracies(table, names) for split, table in tables.items()},
        "certified_time_ratio": {
            when: found[when]["certified_time_ratio"]
            for when in ("before", "after")
            if when in found
        },
        "deals": deals,
        "ablation": found,
    }


def of_tiers(table: OutcomeTable, kept: Sequence[int]) -> OutcomeTable:
    """The outcomes of a cascade of some of the tiers, the last among them.

    A stage's reliability reads its own tier and the first one, which is always kept.
    """
    stages = [k for k, stage in enumerate(table.stages) if stage.tier in kept]
    renamed = tuple(
        replace(table.stages[k], tier=list(kept).index(table.stages[k].tier)) for k in stages
    )
    worth = replace(
        table.worth, score=table.worth.score[:, stages], alike=table.worth.alike[:, stages]
    )
    return replace(
        table,
        stages=renamed,
        worth=worth,
        reliability=table.reliability[:, stages],
        risk=table.risk[:, list(kept)],
        classes=None,
    )


def of_tiers_costs(costs: CostTable, table: OutcomeTable, kept: Sequence[int]) -> CostTable:
    """The costs of such a cascade."""
    stages = [k for k, stage in enumerate(table.stages) if stage.tier in kept]
    return replace(
        costs,
        embed=costs.embed[list(kept)],
        segment=costs.segment[stages],
        head=costs.head[stages],
    )


def deal(pool: OutcomeTable, costs: CostTable, number: int, rows: int, size: int) -> float:
    """How many times cheaper than the full tier the certified policy is, on the whole pool."""
    order = np.random.default_rng([STREAM, number]).permutation(len(pool))
    seen, unseen = order[:rows], order[rows : rows + size]
    world = Lookup.of(pool, costs.at(pool.tokens))
    lookup = world.take(seen)
    conditions = replace(CONDITIONS, max_length=max(32, int(pool.tokens.max())))
    with patch.object(Trial, "rows_needed", lambda *given: None):
        served = certify(
            now(lookup, size),
            pool.take(unseen),
            costs,
            TARGET,
            row_seed(number),
            conditions,
            accuracy=full_accuracy(lookup.table),
        ).policy
    return full_cost(world) / float(world.evaluate(served).cost.mean())


def searched(table: OutcomeTable, costs: CostTable) -> float:
    """The same of the policy that a search on the rows finds, on these rows."""
    lookup = Lookup.of(table, costs.at(table.tokens))
    best = search(lookup, TARGET, margin=2.0, sweeps=8, routed=False)[0]
    return round(full_cost(lookup) / best.cost, 3)


def full_cost(lookup: Lookup) -> float:
    """The mean of the full tier alone."""
    stages = lookup.table.stages
    return float(lookup.evaluate(tier_alone(stages, stages[-1].tier)).cost.mean())


def accuracies(table: OutcomeTable, names: Sequence[str]) -> dict[str, list[float]]:
    """Right answers in per cent at each exit of each tier."""
    share = 100.0 * table.worth.score.mean(0)
    return {
        name: [round(float(share[k]), 1) for k, s in enumerate(table.stages) if s.tier == tier]
        for tier, name in enumerate(names)
    }


def spread(ratios: NDArray[np.float64]) -> dict[str, float]:
    """Median, and the 5th and 95th percentile."""
    low, middle, high = np.percentile(ratios, [5, 50, 95])
    return {
        name: round(float(v), 3)
        for name, v in zip(("median", "p5", "p95"), (middle, low, high), strict=True)
    }


if __name__ == "__main__":
    main()
