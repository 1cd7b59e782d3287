"""Every published decision rule on the same outcome and cost tables, beside ours.

    python benchmarks/rules/record_stages.py runs/certificate/clinc150 tables/clinc150.npz
    python benchmarks/rules/bench.py --work runs/certificate --tables tables [--only clinc150]

WORK holds finished builds of benchmarks/recipes/certificate. Their held-out rows are dealt anew for
each seed into as many rows to search and to certify on as the build had; the rest judges. A rule's
policies are those of its knob; which of them serves is chosen on the search rows, the same way for
all rules: `MARGIN` standard errors to spare. Costs are milliseconds of the build's cost table,
heads and decisions included, at batch 32 on one core. Rules that read no reliability pay for its
head all the same, and routers cost nothing; both are less than a hundredth of the full tier.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rules import rules_of
from tables import Build, load, without

from adaptive.fronts import arranged, front
from adaptive.lines import moving
from adaptive.policy import Lookup, single_stage, tier_alone
from adaptive.risk import drop_counts, paired
from adaptive.search import search, shared_thresholds
from adaptive.targets import excess
from adaptive.types import Evaluation, OutcomeTable, Policy, StageCosts, Target

Floats = NDArray[np.float64]
SETS = {  # the splits that are pooled: SST-2's official test is of another kind than its rows
    "clinc150": ("search", "certify", "test"),
    "ag_news": ("search", "certify", "test"),
    "sst2": ("search", "certify"),
}
RECORD = Path(__file__).parent.parent / "records" / "rules.json"
LEVEL, DELTA, MARGIN = 0.01, 0.05, 1.0
TARGET = Target("accuracy_drop", LEVEL)
BUDGETS = np.linspace(0.02, 1.0, 50)  # shares of the full tier's cost
OURS = (0.0025, 0.005, 0.02, 0.05)  # further levels that our search is run for
SWEEPS = 4
LONGEST = 25  # policies of a sequence that are tested

WORDS = {
    "area": "mean of accuracy over the full tier's, over budgets from 2 to 100 % of its mean "
    "cost; for each the best policy within it on the search rows, judged on others. A budget "
    "that buys nothing is answered by the commonest class",
    "cost_at_99": "milliseconds of the cheapest policy that loses at most 1 % of the full tier's "
    "accuracy on the search rows, one standard error to spare; kept_at_99 is what it keeps",
    "cost_at_995": "the same for 0.5 %",
    "accuracy_at_fifth": "accuracy over the full tier's within a fifth of the full tier's cost",
    "certified_cost": "milliseconds of the policy certified to lose at most 1 %, 95 % sure, "
    "by the exact test in a fixed sequence; the full tier's where none is",
    "interval": "of the mean over seeds, at 95 %, by Student's t. Seeds deal one pool, so it tells "
    "of the deal and not of other data or other builds",
    "against_ours": "mean over seeds of the rule's less ours, and its interval: seeds are paired",
    "ablation": "ours without a part: milliseconds of certified_cost and cost_at_99, and how many "
    "more than with it, by seed",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    for name in given.only:
        build = load(given.work / name, given.tables / f"{name}.npz", SETS[name])
        found = run(build, given.seeds, given.tables / f"{name}.deals.json")
        import records  # brings torch, which nothing above needs

        records.write(given.record, records.read(given.record) | {"words": WORDS, name: found})
        print(json.dumps({name: found["ablation"]}, indent=1), flush=True)


def run(build: Build, seeds: int, cache: Path) -> dict[str, Any]:
    """All rules and the ablation on one data set; figures of finished deals lie in the cache."""
    table = build.table
    costs = build.costs.at(table.tokens)
    rules = rules_of(build)
    ways = variants(build, costs)
    done = json.loads(cache.read_text()) if cache.is_file() else {}
    for seed in range(seeds):
        start, rows = time.process_time(), deal(len(table), build.sizes, seed)
        own = done.setdefault(str(seed), {"rules": {}, "parts": {}})
        for rule in rules:
            if rule.name not in own["rules"]:
                own["rules"][rule.name] = judged(rule.table, costs, rule.family, rows)
        if "ours" not in own["rules"]:
            own["rules"]["ours"] = judged(table, costs, ours, rows, own=True)
        cache.write_text(json.dumps(done))
        for part, (other, price, way) in ways.items():
            if part not in own["parts"]:
                searched = way is not ours_shared
                own["parts"][part] = judged(other, price, way, rows, own=searched, few=True)
        cache.write_text(json.dumps(done))
        print(f"seed {seed}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
    each = [done[str(seed)] for seed in range(seeds)]
    figures = {name: [one["rules"][name] for one in each] for name in each[0]["rules"]}
    parts = {name: [one["parts"][name] for one in each] for name in each[0]["parts"]}
    full = Lookup.of(table, costs).evaluate(tier_alone(table.stages, table.stages[-1].tier))
    papers = {rule.name: rule.paper for rule in rules} | {"ours": "this project"}
    return {
        "rows": {"pool": len(table), **build.sizes},
        "seeds": seeds,
        "full": {
            "accuracy": float(table.worth.reference.mean(dtype=np.float64)),
            "cost": float(full.cost.mean()),
        },
        "rules": {
            name: {"paper": papers[name], **summed(found, figures["ours"])}
            for name, found in figures.items()
        },
        "ablation": {
            name: {
                key: {
                    "milliseconds": interval([each[key] for each in found]),
                    "more": interval(
                        [a[key] - b[key] for a, b in zip(found, parts["all"], strict=True)]
                    ),
                }
                for key in ("certified_cost", "cost_at_99")
            }
            for name, found in parts.items()
        },
    }


def deal(rows: int, sizes: dict[str, int], seed: int) -> dict[str, NDArray[np.int64]]:
    """Rows to search, to certify and to judge on."""
    order = np.random.default_rng(1000 + seed).permutation(rows)
    search, certify = sizes["search"], sizes["certify"]
    if "test" not in sizes:  # a third of them judges
        certify = min(certify, (rows - search) * 2 // 3)
    ends = np.cumsum([search, certify])
    names = ("search", "certify", "judge")
    return dict(zip(names, np.split(order, ends), strict=True))


Family = Callable[[Lookup], list[Policy]]


def judged(
    table: OutcomeTable,
    costs: StageCosts,
    family: Family,
    rows: dict[str, NDArray[np.int64]],
    *,
    own: bool = False,
    few: bool = False,
) -> dict[str, float]:
    """A rule's figures in one deal.

    Args:
        own: the front is made as ours is; else of the rule's policies.
        few: only what the ablation tells.
    """
    whole = Lookup.of(table, costs)
    parts = {name: whole.take(each) for name, each in rows.items()}
    search_, judge = parts["search"], parts["judge"]
    full = tier_alone(table.stages, table.stages[-1].tier)
    policies = list(dict.fromkeys([full, *family(search_)]))
    seen = [search_.evaluate(each) for each in policies]
    cost = np.array([each.cost.mean() for each in seen])
    right = np.array([each.score.mean() for each in seen])
    base = float(search_.table.worth.reference.mean(dtype=np.float64))
    reference = search_.table.worth.reference.astype(np.float64)
    lost = 1.0 - right / base
    error = np.array(
        [(reference - each.score).std() / np.sqrt(len(reference)) / base for each in seen]
    )
    held = float(judge.table.worth.reference.mean(dtype=np.float64))
    known: dict[int, Evaluation] = {}

    def judged_by(place: int) -> tuple[float, float]:
        if place not in known:
            known[place] = judge.evaluate(policies[place])
        return float(known[place].cost.mean()), float(known[place].score.mean()) / held

    found: dict[str, float] = {}
    for name, level in (("99", 0.01), ("995", 0.005)):
        kept = np.flatnonzero(lost + MARGIN * error <= level)
        place = int(kept[cost[kept].argmin()]) if len(kept) else 0
        found[f"cost_at_{name}"], found[f"kept_at_{name}"] = judged_by(place)
    if not few:
        commonest = np.bincount(judge.table.labels).max() / len(judge.table) / held
        reached = []
        for share in [*BUDGETS, 0.2]:
            inside = np.flatnonzero(cost <= share * cost[0])
            best = int(inside[right[inside].argmax()]) if len(inside) else -1
            reached.append(judged_by(best)[1] if best >= 0 else commonest)
        found["area"], found["accuracy_at_fifth"] = float(np.mean(reached[:-1])), reached[-1]
    certified = certify(
        own_front(search_) if own else rule_front(search_, policies), parts["certify"], base
    )
    did = judge.evaluate(full if certified is None else certified)
    found["certified_cost"] = float(did.cost.mean())
    found["kept_certified"] = float(did.score.mean()) / held
    found["certifies"] = float(certified is not None and certified != full)
    return found


def rule_front(search_: Lookup, policies: Sequence[Policy]) -> list[Policy]:
    """A rule's policies as a sequence of tests, by the rows searched on."""
    return [found.policy for found in arranged(search_, TARGET, policies)]


def own_front(search_: Lookup) -> list[Policy]:
    """Ours, as a build makes it."""
    found = search(search_, TARGET, margin=2.0, sweeps=SWEEPS, routed=_routes(search_))
    return [each.policy for each in front(search_, TARGET, found, sweeps=SWEEPS)]


def ours(search_: Lookup) -> list[Policy]:
    """Searched policies for several levels, and the lines through them."""
    found: list[Policy] = [
        single_stage(search_.table.stages, k) for k in range(len(search_.table.stages))
    ]
    for level in (LEVEL, *OURS):
        target = Target("accuracy_drop", level)
        best = search(search_, target, margin=MARGIN, sweeps=SWEEPS, routed=_routes(search_))[
            0
        ].policy
        found.append(best)
        if level == LEVEL:
            found += moving(search_, best, 60)
    return found


def ours_few(search_: Lookup) -> list[Policy]:
    """The searched policy for the level alone."""
    return [
        search(search_, TARGET, margin=MARGIN, sweeps=SWEEPS, routed=_routes(search_))[0].policy
    ]


def ours_shared(search_: Lookup) -> list[Policy]:
    """One threshold for all exits: no joint search."""
    tiers = tuple(range(search_.table.stages[-1].tier + 1))
    values = np.unique(np.quantile(search_.table.reliability, np.linspace(0, 1, 120)))
    return [shared_thresholds(search_.table.stages, tiers, v) for v in values.tolist()]


def _routes(search_: Lookup) -> bool:
    return bool(search_.table.risk.any())


Variant = tuple[OutcomeTable, StageCosts, Family]


def variants(build: Build, costs: StageCosts) -> dict[str, Variant]:
    """Ours, and ours without a part or with a router."""
    table, stages = build.table, build.table.stages
    tier = {t: {k for k, s in enumerate(stages) if s.tier == t} for t in range(stages[-1].tier + 1)}
    last = {max(own) for own in tier.values()}
    sure = replace(table, reliability=build.scores["tempered"].astype(np.float32))
    risk = build.risks["logistic"]
    return {
        "all": (table, costs, ours_few),
        "without depth-0 exits of mid and full": (
            *without(table, costs, {k for k, s in enumerate(stages) if s.tier and not s.depth}),
            ours_few,
        ),
        "without tiny": (*without(table, costs, tier[0]), ours_few),
        "without mid": (*without(table, costs, tier[1]), ours_few),
        "without exits inside tiers": (
            *without(table, costs, set(range(len(stages))) - last),
            ours_few,
        ),
        "maximum probability for reliability": (sure, costs, ours_few),
        "one threshold for the joint search": (table, costs, ours_shared),
        "with a logistic router": (replace(table, risk=risk), costs, ours_few),
    }


@cache
def p_value(worse: int, better: int, both: int, rows: int, accuracy: float) -> float:
    """Of H0: more than `LEVEL` of the full tier's accuracy is lost."""
    return float(paired(worse, better, both, rows, LEVEL, accuracy=accuracy, delta=DELTA))


def certify(line: Sequence[Policy], rows: Lookup, accuracy: float) -> Policy | None:
    """The cheapest policy of a fixed sequence before the first that fails; None: the first does."""
    places = np.unique(np.linspace(0, len(line) - 1, min(LONGEST, len(line))).round().astype(int))
    passed: list[tuple[float, Policy]] = []
    for place in places.tolist():
        did = rows.evaluate(line[place])
        counts = [int(each.item()) for each in drop_counts(excess(TARGET, did, rows.table)[None])]
        if p_value(*counts, len(rows.table), accuracy) > DELTA:
            break
        passed.append((float(did.cost.mean()), line[place]))
    return min(passed, key=lambda each: each[0])[1] if passed else None


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds, and its 95 % interval."""
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    reach = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    mean = float(found.mean())
    return {"mean": round(mean, 5), "low": round(mean - reach, 5), "high": round(mean + reach, 5)}


def summed(found: list[dict[str, float]], mine: list[dict[str, float]]) -> dict[str, Any]:
    """A rule's figures over seeds, and how they differ from ours in the same deals."""
    keys = list(found[0])
    told = {key: interval([each[key] for each in found]) for key in keys}
    against = {
        key: interval([a[key] - b[key] for a, b in zip(found, mine, strict=True)])
        for key in ("area", "cost_at_99", "cost_at_995", "accuracy_at_fifth", "certified_cost")
    }
    return {**told, "against_ours": against}


if __name__ == "__main__":
    main()
