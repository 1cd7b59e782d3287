"""Every published decision rule on the same outcome and cost tables, beside ours.

    python benchmarks/rules/record_stages.py runs/certificate/clinc150 tables/clinc150.npz
    python benchmarks/rules/bench.py --work runs/certificate --tables tables [--only clinc150]

WORK holds finished builds of benchmarks/recipes/certificate. Their held-out rows are dealt anew for
each seed into as many rows to search and to certify on as the build had; the rest judges. A rule's
policies are those of its knob; which of them serves is chosen on the search rows, the same way for
all rules that bring no way of their own: `MARGIN` standard errors to spare. Costs are milliseconds
of the build's cost table, heads and decisions included, at batch 32 on one core. Rules that read
no reliability pay for its head all the same, and routers cost nothing; both are less than a
hundredth of the full tier.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ours
from judging import LEVEL, Rows, against, deal, interval, judged, share_of
from rules import Rule, rules_of
from tables import Build, load

from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.types import Policy, Target

SETS = {  # the splits that are pooled: SST-2's official test is of another kind than its rows
    "clinc150": ("search", "certify", "test"),
    "ag_news": ("search", "certify", "test"),
    "sst2": ("search", "certify"),
}
RECORD = Path(__file__).parent.parent / "records" / "rules.json"
TARGET = Target("accuracy_drop", LEVEL)
LINE = "ours, the front as a line"
PARTS = 10  # seeds of the ablation
Figures = dict[str, float]

WORDS = {
    "area": "mean of accuracy over the full tier's, over budgets from 2 to 100 % of its mean "
    "cost; for each the best policy within it on the search rows, judged on others. A budget "
    "that buys nothing is answered by the commonest class",
    "cost_at_99": "milliseconds (dollars) of the cheapest policy that loses at most 1 % of the "
    "full tier's accuracy on the search rows, one standard error to spare; kept_at_99 is what it "
    "keeps on the rows to judge on",
    "cost_at_995": "the same for 0.5 %",
    "accuracy_at_fifth": "accuracy over the full tier's within a fifth of the full tier's cost",
    "certified_cost": "milliseconds (dollars) of the policy certified to lose at most 1 %, 95 % "
    "sure, by the exact test in a fixed sequence; the full tier's where none is",
    "ours": "what is served is chosen among policies searched for five levels, thresholds free; "
    "certified is the front that a build makes. The front as a line: chosen from that line too",
    "interval": "of the mean over seeds, at 95 %, by Student's t. Seeds deal one pool, so it tells "
    "of the deal and not of other data or other builds",
    "against_ours": "mean over seeds of the rule's less ours, its interval and the p-value of a "
    "paired t-test; the variance is corrected for deals that share a pool (Nadeau and Bengio 2003)",
    "ablation": "ours without a part: milliseconds of certified_cost, and of cost_at_99 as "
    "searched, and how many more than with it; its interval is corrected as in against_ours",
    "uncertified": "what is served without a certificate (uncertified.py): cost and kept share on "
    "the rows to judge on, and how much more than of the searched policy, as in ablation",
    "router_trial": "ours with a router less ours without, in milliseconds, by how many times the "
    "full tier's costs are those measured",
}


def main() -> None:
    given = asked(__doc__.splitlines()[0], seeds=20)
    for name, build in builds(given):
        found = run(build, given.seeds, given.tables / f"{name}.deals.json")
        save(given.record, name, found)


def asked(told: str, seeds: int) -> argparse.Namespace:
    """What is asked for on the command line.

    Args:
        told: the first line of the help.
        seeds: by default.
    """
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--record", type=Path, default=RECORD)
    return parser.parse_args()


def builds(given: argparse.Namespace) -> Iterator[tuple[str, Build]]:
    """The builds that are asked for, each with its name."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    for name in given.only:
        yield name, load(given.work / name, given.tables / f"{name}.npz", SETS[name])


def save(record: Path, name: str, found: dict[str, Any]) -> None:
    """Take a data set's figures into the record; those of other kinds stay."""
    import records  # brings torch, which nothing above needs

    old = records.read(record)
    records.write(record, old | {"words": WORDS, name: old.get(name, {}) | found})


def run(build: Build, seeds: int, cache: Path) -> dict[str, Any]:
    """All rules and the ablation on one data set; figures of finished deals lie in the cache."""
    table = build.table
    costs = build.costs.at(table.tokens)
    whole = ours.parts_of(build, costs)
    every = [
        *rules_of(build, costs),
        ours.rule_of(LINE, whole["all"]),
        Rule("ours", "this project", whole["all"], ours.searched),
    ]
    dealt = [deal(len(table), build.sizes, seed) for seed in range(seeds)]
    done = finished(every, dealt, cache, TARGET, lambda rows: ours.line(rows, TARGET))
    return {
        "rows": {name: len(each) for name, each in dealt[0].items()},
        "unit": "milliseconds",
        **told(every, done, dealt),
        **full_of(whole["all"]),
        "ablation": ablation(whole, dealt[:PARTS], cache.with_suffix(".parts.json")),
    }


def finished(
    every: Sequence[Rule],
    dealt: Sequence[Rows],
    cache: Path,
    target: Target,
    own: Callable[[Lookup], list[Policy]],
) -> dict[str, list[Figures]]:
    """Figures of each rule in each deal, from the cache where they are there.

    Args:
        own: the sequence of tests of rules that are called ours.
    """
    kept: dict[str, dict[str, Figures]] = json.loads(cache.read_text()) if cache.is_file() else {}
    for seed, rows in enumerate(dealt):
        start, done = time.process_time(), kept.setdefault(str(seed), {})
        for rule in every:
            if rule.name not in done:
                if rule.name.startswith("ours"):
                    line = own(rule.lookup.take(rows["search"]))
                    mine = rule if rule.family is ours.searched else ours.with_line(rule, line)
                    done[rule.name] = judged(mine, rows, target, line)
                else:
                    done[rule.name] = judged(rule, rows, target)
        cache.write_text(json.dumps(kept))
        print(f"seed {seed}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
    return {rule.name: [kept[str(s)][rule.name] for s in range(len(dealt))] for rule in every}


def told(
    every: Sequence[Rule], done: dict[str, list[Figures]], dealt: Sequence[Rows]
) -> dict[str, Any]:
    """The rules' part of a record."""
    share = share_of(dealt)
    return {
        "seeds": len(dealt),
        "rules": {
            rule.name: {
                "paper": rule.paper,
                **{
                    key: interval([each[key] for each in done[rule.name]])
                    for key in done[rule.name][0]
                },
                "against_ours": against(done[rule.name], done["ours"], share),
            }
            for rule in every
        },
    }


def full_of(lookup: Lookup) -> dict[str, Any]:
    """What the full tier alone does on the pool."""
    stages = lookup.table.stages
    did = lookup.evaluate(tier_alone(stages, stages[-1].tier))
    reference = lookup.table.worth.reference.mean(dtype=float)
    return {"full": {"accuracy": float(reference), "cost": float(did.cost.mean())}}


def ablation(whole: dict[str, Lookup], dealt: Sequence[Rows], cache: Path) -> dict[str, Any]:
    """Ours without each part: what it costs, and how much more than with it."""
    kept: dict[str, dict[str, Figures]] = json.loads(cache.read_text()) if cache.is_file() else {}
    plain = whole["all"]
    ways = {name: (lookup, ours.one_level, ours.line) for name, lookup in whole.items()}
    ways["one threshold for the joint search"] = (plain, ours.one_threshold, None)  # type: ignore[assignment]
    ways["one policy for the front"] = (plain, ours.one_level, ours.lone)
    for seed, rows in enumerate(dealt):
        done = kept.setdefault(str(seed), {})
        for name, (lookup, family, way) in ways.items():
            if name not in done:
                own = None if way is None else way(lookup.take(rows["search"]), TARGET)
                done[name] = judged(Rule(name, "", lookup, family), rows, TARGET, own)
        cache.write_text(json.dumps(kept))
        print(f"parts, seed {seed}", file=sys.stderr, flush=True)
    seeds = [str(seed) for seed in range(len(dealt))]
    return {
        name: {
            key: {
                "milliseconds": interval([kept[s][name][key] for s in seeds]),
                "more": interval(
                    [kept[s][name][key] - kept[s]["all"][key] for s in seeds], share_of(dealt)
                ),
            }
            for key in ("certified_cost", "cost_at_99")
        }
        for name in ways
    }


if __name__ == "__main__":
    main()
