"""What is served without a certificate: the searched policy, or the cheapest of the front.

    python benchmarks/rules/uncertified.py --work runs/certificate --tables tables [--only clinc150]

Each is chosen on the search rows with standard errors to spare, and judged on rows that chose
nothing. The searched policy's thresholds are free; the front's are as free as the rows tell. A
build has two standard errors to spare.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import ours
from bench import Figures, asked, builds, save
from judging import Rows, deal, interval, share_of

from adaptive.policy.fronts import front
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import Judge, search
from adaptive.types import Policy, Target

LEVELS = {"99": 0.01, "995": 0.005}
MARGINS = (2.0, 1.0)


def main() -> None:
    given = asked(__doc__.splitlines()[0], seeds=10)
    for name, build in builds(given):
        lookup = Lookup.of(build.table, build.costs.at(build.table.tokens))
        dealt = [deal(len(build.table), build.sizes, seed) for seed in range(given.seeds)]
        cache = given.tables / f"{name}.uncertified.json"
        kept: dict[str, Figures] = json.loads(cache.read_text()) if cache.is_file() else {}
        for seed, rows in enumerate(dealt):
            if str(seed) not in kept:
                kept[str(seed)] = judged(lookup, rows)
                cache.write_text(json.dumps(kept))
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
        found = [kept[str(seed)] for seed in range(given.seeds)]
        save(given.record, name, {"uncertified": summed(found, share_of(dealt))})


def judged(lookup: Lookup, rows: Rows) -> Figures:
    """Cost and kept share of each choice at each level, on the rows to judge on."""
    searched, judge = lookup.take(rows["search"]), lookup.take(rows["judge"])
    held = float(judge.table.worth.reference.mean(dtype=np.float64))
    found: Figures = {}
    for name, level in LEVELS.items():
        target = Target("accuracy_drop", level)
        ladder = search(searched, target, margin=2.0, sweeps=ours.SWEEPS, routed=False)
        line = front(searched, target, ladder, sweeps=ours.SWEEPS)
        chosen = {"searched": ladder[0].policy}
        for margin in MARGINS:
            careful = Judge(searched, target, margin)
            safe = [each for each in (careful(f.policy) for f in line) if each.excess <= 0.0]
            cheapest = min(safe, key=lambda f: f.cost, default=careful.lead)
            chosen[f"front, {margin:g} to spare"] = cheapest.policy
        for way, policy in chosen.items():
            found |= {f"{way} {key}_{name}": each for key, each in _did(judge, policy, held)}
    return found


def _did(judge: Lookup, policy: Policy, held: float) -> list[tuple[str, float]]:
    did = judge.evaluate(policy)
    return [("cost", float(did.cost.mean())), ("kept", float(did.score.mean()) / held)]


def summed(found: list[Figures], share: float) -> dict[str, Any]:
    """Each figure, and by how much the front's is more than the searched policy's."""
    told: dict[str, Any] = {}
    for name in found[0]:
        values = [each[name] for each in found]
        told[name] = interval(values)
        if name.startswith("front"):
            own = f"searched {name.rsplit(' ', 1)[1]}"
            more = [each[name] - each[own] for each in found]
            told[name]["more"] = interval(more, share)
    return told


if __name__ == "__main__":
    main()
