"""The search's half of the certificate's price: what a certified policy saves, by search rows.

    python benchmarks/search_price.py --work FOLDER --splits search test --name clinc150 \\
        --certify 3000 [--first 0 --deals 100] [--results FILE] [--record FILE]

FOLDER is a build's work folder with recorded outcomes. The rows of the splits named are one pool,
which is dealt anew at random in each deal: rows to search on, and others, by whose mean a policy is
judged and of which some certify. Three lines are searched and certified on the same rows:

before   one policy's thresholds, found by coordinate descent, moved by shares of texts; at most
         50 policies, one standard error of hope
shared   one threshold for all exits of the path that is cheapest at the target on the search rows
now      what a build puts to the test (`adaptive.policy.fronts.front`)

Each deal is a line of the results file, and deals that stand there are not done again; the record
is made of all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import records
from certificate_errors import CONDITIONS

from adaptive.bundle.outcomes import load_outcomes
from adaptive.certificate.certify import certify
from adaptive.certificate.claims import Trial
from adaptive.certifying.recertify import full_accuracy, row_seed
from adaptive.policy.costs import MILLISECONDS, CostTable
from adaptive.policy.fronts import MARGIN, along, front
from adaptive.policy.lines import completed, moving, shifting
from adaptive.policy.lookup import Lookup, is_bare, tier_alone, useful_tiers
from adaptive.policy.search import Judge, paths, search
from adaptive.policy.targets import mean_excess
from adaptive.policy.worth import concatenate
from adaptive.types import OutcomeTable, Policy, Stage, Target

HERE = Path(__file__).parent
TARGET = Target("accuracy_drop", 0.01, 0.95)
SWEEPS = 8
SIZES = (500, 1_000, 2_000, 0)  # search rows; 0: as many as the build's
STREAM = 11  # of the deals' random numbers

WORDS = {
    "saving": "the full tier's mean cost on the pool over the certified policy's: the mean over "
    "deals, with its standard error",
    "over": "by how much `now` saves more than the other in the same deals: the mean difference of "
    "the logarithms, in per cent, with its standard error",
    "developed_on_it": "whether the ways, their anchor and MUCH were chosen on deals of the same "
    "rows (others than these deals); where false, no choice has seen the pool",
    "wrong": "deals in which the policy served breaks the level on the rows that its search did "
    "not see, of which those to certify on are a random part",
    "seconds": "of processor time for the search and the front, the mean",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["search", "test"])
    parser.add_argument("--name", required=True, help="of the pool in the record")
    parser.add_argument("--costs", type=Path, help="a measured cost table; else layers are counted")
    parser.add_argument(
        "--certify", type=int, required=True, help="rows of each deal to certify on"
    )
    parser.add_argument(
        "--developed", action="store_true", help="constants were chosen on this very pool"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--deals", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path("runs/search_price.jsonl"))
    parser.add_argument("--record", type=Path, default=HERE / "records" / "search.json")
    given = parser.parse_args()
    tables = {split: table_of(given.work, split) for split in {*given.splits, "search"}}
    pool = concatenate([tables[split] for split in given.splits])
    costs = costs_of(given.costs, pool.stages)
    done = {(r["name"], r["deal"], r["rows"]) for r in read(given.results)}
    given.results.parent.mkdir(parents=True, exist_ok=True)
    sizes = sorted({min(size or 10**9, len(tables["search"])) for size in given.sizes})
    with given.results.open("a", encoding="utf-8") as results:
        for number in range(given.first, given.first + given.deals):
            for rows in sizes:
                if (given.name, number, rows) not in done:
                    found = deal(pool, costs, number, rows, given.certify)
                    told = {"name": given.name, "deal": number, "rows": rows, "lines": found}
                    results.write(json.dumps(told) + "\n")
                    results.flush()
    record = records.read(given.record) | {"words": WORDS}
    record[given.name] = {
        "pool": len(pool),
        "splits": given.splits,
        "costs": "measured" if given.costs else "counted",
        "certify": given.certify,
        "developed_on_it": given.developed,
        "by_rows": summary([r for r in read(given.results) if r["name"] == given.name]),
    }
    records.write(given.record, record)
    print(json.dumps(record[given.name], indent=1))


def table_of(work: Path, split: str) -> OutcomeTable:
    """A split's recorded outcomes."""
    folder = work / "outcomes"
    described = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    stages = tuple(Stage(*values) for values in described)
    return load_outcomes(folder / f"{split}.safetensors", stages, split)


def costs_of(file: Path | None, stages: Sequence[Stage]) -> CostTable:
    """A measured table; without one, a layer of the full tier costs 1 and one of another 1/2.

    A first tier without layers costs a twentieth, and each head as much.
    """
    if file is not None:
        return CostTable.from_json(json.loads(file.read_text(encoding="utf-8")))
    tiers, segment = [stage.tier for stage in stages], []
    for place, stage in enumerate(stages):
        before = stages[place - 1].depth if place and tiers[place - 1] == stage.tier else 0
        segment.append((stage.depth - before) * (1.0 if stage.tier == tiers[-1] else 0.5))
    flat = np.ones((1, 2))
    return CostTable(
        MILLISECONDS,
        np.array([1.0, 2.0]),
        embed=0.05 * flat.repeat(len(set(tiers)), 0),
        segment=np.array(segment)[:, None] * flat,
        head=0.05 * flat.repeat(len(stages), 0),
        router=np.zeros(2),
    )


def deal(pool: OutcomeTable, costs: CostTable, number: int, rows: int, size: int) -> dict[str, Any]:
    """The three lines, searched and certified on the same rows of the pool."""
    order = np.random.default_rng([STREAM, number]).permutation(len(pool))
    # the rows to certify on are the same whatever the number of search rows
    unseen, others, seen = order[:size], order[:-rows], order[-rows:]
    world = Lookup.of(pool, costs.at(pool.tokens))
    full = world.evaluate(tier_alone(pool.stages, pool.stages[-1].tier)).cost.mean()
    lookup, judge = world.take(seen), pool.take(others)
    conditions = replace(CONDITIONS, max_length=max(32, int(pool.tokens.max())))
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        start = time.process_time()
        line = way(lookup, size)
        taken = time.process_time() - start
        with patch.object(Trial, "rows_needed", lambda *given: None):
            served = certify(
                line,
                pool.take(unseen),
                costs,
                TARGET,
                row_seed(number),
                conditions,
                accuracy=full_accuracy(lookup.table),
            ).policy
        result = world.evaluate(served)
        found[name] = {
            "cost": float(result.cost.mean() / full),
            "excess": float(mean_excess((TARGET,), result.take(others), judge)[0].max()),
            "seconds": taken,
            "policies": len(line),
        }
    return found


def before(lookup: Lookup, size: int) -> list[Policy]:
    """One policy's thresholds moved by shares of texts, in a short front of little hope."""
    found = search(lookup, TARGET, margin=MARGIN, sweeps=SWEEPS, routed=False)
    base = found[0].policy
    if is_bare(base):
        base = search(lookup, TARGET, margin=0.0, sweeps=SWEEPS, routed=False)[0].policy
    alone = [f.policy for f in found if is_bare(f.policy)]
    with patch("adaptive.policy.fronts.FRONT", 50), patch("adaptive.policy.fronts.HOPE", 1.0):
        line = [*alone, base, *moving(lookup, completed(lookup, base))]
        return [f.policy for f in along(lookup, TARGET, line)]


def shared(lookup: Lookup, size: int) -> list[Policy]:
    """One threshold for all exits of a path."""
    for margin in (MARGIN, 0.0):
        judge = Judge(lookup, TARGET, margin)
        found = [judge.shared(path) for path in paths(useful_tiers(lookup.table))]
        some = [f for f in found if f is not None and not is_bare(f.policy)]
        if some:
            break
    else:
        return [judge.lead.policy]
    best = completed(lookup, min(some, key=lambda f: f.cost).policy)
    even = replace(
        best, thresholds=tuple(0.97 if np.isfinite(level) else level for level in best.thresholds)
    )
    return [f.policy for f in along(lookup, TARGET, shifting(lookup, even))]


def now(lookup: Lookup, size: int) -> list[Policy]:
    """What a build puts to the test."""
    found = search(lookup, TARGET, margin=MARGIN, sweeps=SWEEPS, routed=False)
    return [f.policy for f in front(lookup, TARGET, found, sweeps=SWEEPS, rows=size)]


WAYS: dict[str, Callable[[Lookup, int], list[Policy]]] = {
    "before": before,
    "shared": shared,
    "now": now,
}


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the number of search rows."""
    found = []
    for rows in sorted({each["rows"] for each in results}):
        deals = [each["lines"] for each in results if each["rows"] == rows]
        costs = {name: np.array([each[name]["cost"] for each in deals]) for name in WAYS}
        told: dict[str, Any] = {"rows": rows, "deals": len(deals)}
        told["saving"] = {name: mean(1.0 / cost) for name, cost in costs.items()}
        told["over"] = {
            name: mean(100.0 * np.log(costs[name] / costs["now"])) for name in ("before", "shared")
        }
        for name in ("wrong", "seconds"):
            told[name] = {}
        for name in WAYS:
            told["wrong"][name] = sum(each[name]["excess"] > 0.0 for each in deals)
            told["seconds"][name] = float(np.mean([each[name]["seconds"] for each in deals]))
        found.append(told)
    return found


def mean(values: Any) -> dict[str, float]:
    """The mean, and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": round(float(values.mean()), 3), "error": round(float(error), 3)}


def read(file: Path) -> list[dict[str, Any]]:
    """The deals done so far."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
