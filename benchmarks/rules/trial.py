"""What a router is worth: other features, other aims, and dearer full tiers.

    python benchmarks/rules/trial.py --work runs/certificate --tables tables [--only clinc150]

The full tier's costs are also taken four and twelve times, about what BERT-base and BERT-large are
to MiniLM, under the same outcomes. Besides the bag's features routers read the teacher's sentence
embedding, as if it were free. Besides by each tier's risk, texts are routed by their expected cost
to finish under the policy found without a router, and a weighted expected loss. All of it is fitted
on the build's fit rows. The last router knows each text's true cost to finish and true loss.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ours
from bench import TARGET, Figures, asked, builds, save
from fitted import standardised
from judging import Rows, deal, interval, judged, share_of
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from tables import Build, dearer

from adaptive.policy.entries import forced
from adaptive.policy.fronts import MARGIN, front
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import Found, refine, search
from adaptive.types import Policy

Floats = NDArray[np.float64]
Estimate = Callable[[Lookup, Policy], Floats]  # [n, 2 m]: cost to finish and loss from each tier
FACTORS = (1.0, 4.0, 12.0)
RISKS = {"logistic": "logistic", "tuned kNN": "knn", "kNN on the teacher": "knn on the teacher"}
WEIGHTS = (0.0, 0.3, 1.0, 3.0, 10.0)  # of the expected loss, in costs of the full tier
NEIGHBOURS = 20


def main() -> None:
    given = asked(__doc__.splitlines()[0], seeds=5)
    for name, build in builds(given):
        found = run(build, given.seeds, given.tables / f"{name}.trial.json")
        save(given.record, name, {"router_trial": found})


def run(build: Build, seeds: int, cache: Path) -> dict[str, Any]:
    """By factor and router, what it saves or costs beside none."""
    kept: dict[str, Figures] = json.loads(cache.read_text()) if cache.is_file() else {}
    told: dict[str, Any] = {}
    dealt = [deal(len(build.table), build.sizes, seed) for seed in range(seeds)]
    for factor in FACTORS:
        costs = dearer(build.table, build.costs.at(build.table.tokens), factor)
        fitting = dearer(build.fit, build.costs.at(build.fit.tokens), factor)
        plain, fit = Lookup.of(build.table, costs), Lookup.of(build.fit, fitting)
        routers: dict[str, Callable[[Rows], Figures]] = {"none": partial(_ours, plain)}
        for name, risk in RISKS.items():
            seen = replace(build.table, risk=build.risks[risk])
            routers[name] = partial(_ours, Lookup.of(seen, costs))
        aims = {
            "cost to finish": _predicted(fit, build.features["bag"], "ridge"),
            "cost to finish, kNN on the teacher": _predicted(
                fit, build.features["teacher"], "nearest"
            ),
            "knows cost to finish and loss": truth,
        }
        for name, estimate in aims.items():
            routers[name] = partial(finishing, plain, estimate)
        for seed, rows in enumerate(dealt):
            for name, judge in routers.items():
                key = f"{factor:g} {name} {seed}"
                if key not in kept:
                    kept[key] = judge(rows)
                    cache.write_text(json.dumps(kept))
            print(f"x {factor:g}, seed {seed}", file=sys.stderr, flush=True)
        told[f"{factor:g}"] = {
            name: _summed(
                [kept[f"{factor:g} {name} {s}"] for s in range(seeds)],
                [kept[f"{factor:g} none {s}"] for s in range(seeds)],
                share_of(dealt),
            )
            for name in routers
        }
    return told


def _summed(found: Sequence[Figures], none: Sequence[Figures], share: float) -> dict[str, Any]:
    return {
        key: {
            "milliseconds": interval([each[key] for each in found]),
            "more": interval([a[key] - b[key] for a, b in zip(found, none, strict=True)], share),
        }
        for key in ("certified_cost", "cost_at_99")
    }


def _ours(lookup: Lookup, rows: Rows) -> Figures:
    line = ours.line(lookup.take(rows["search"]), TARGET)
    return judged(ours.with_line(ours.rule_of("", lookup), line), rows, TARGET, line)


def finishing(plain: Lookup, estimate: Estimate, rows: Rows) -> Figures:
    """Routed by expected cost to finish and weighted loss; by none where that is no better."""
    searched = plain.take(rows["search"])
    best = search(searched, TARGET, margin=MARGIN, sweeps=ours.SWEEPS, routed=False)
    bases = [best[0], *(f for f in best[1:] if len(f.policy.path) == plain.table.risk.shape[1])][:2]
    tried: list[tuple[Found, Lookup]] = [(best[0], plain)]
    scale, tiers = float(plain.run[:, -1].mean()), plain.table.risk.shape[1]
    for base in bases:
        if len(base.policy.path) < 2:
            continue
        told = estimate(plain, base.policy)
        start = replace(base.policy, risk_weight=1.0, entry_cost=(0.0,) * tiers)
        for weight in WEIGHTS:
            risk = told[:, :tiers] + weight * scale * told[:, tiers:]
            table = replace(plain.table, risk=np.asfortranarray(risk, np.float32))
            lookup = replace(plain, table=table)
            found = refine(
                lookup.take(rows["search"]), TARGET, start, margin=MARGIN, sweeps=ours.SWEEPS
            )
            if found is not None:
                tried.append((found, lookup))
    found, lookup = min(tried, key=lambda each: each[0].rank)

    made = front(lookup.take(rows["search"]), TARGET, [found], sweeps=ours.SWEEPS)
    line = [each.policy for each in made]
    return judged(ours.with_line(ours.rule_of("", lookup), line), rows, TARGET, line)


def truth(lookup: Lookup, policy: Policy) -> Floats:
    """Cost to finish and loss of each text from each tier of the path, [n, 2 m]."""
    size, tiers = lookup.table.risk.shape
    cost, loss = np.full((size, tiers), np.inf), np.ones((size, tiers))
    for tier in policy.path:
        did = Lookup.evaluate(*forced(lookup, policy, np.full(size, tier, np.int32)))
        cost[:, tier] = did.cost
        loss[:, tier] = lookup.table.worth.reference - did.score
    return np.column_stack([cost, loss])


def _predicted(fit: Lookup, features: tuple[Floats, Floats], kind: str) -> Estimate:
    """The same, told from features by what happens to the rows to fit."""
    known, pool = standardised(features)

    def estimate(lookup: Lookup, policy: Policy) -> Floats:
        aim = truth(fit, policy)
        off = np.isinf(aim).any(0)
        model: Any = RidgeCV(np.logspace(0.0, 4.0, 9))
        if kind == "nearest":
            model = KNeighborsRegressor(NEIGHBOURS, metric="cosine", algorithm="brute")
        found: Floats = model.fit(known, np.where(off, 0.0, aim)).predict(pool)
        found[:, off] = np.inf
        return found

    return estimate


if __name__ == "__main__":
    main()
