"""How many labels a certificate takes where they are asked for one by one, and what it then saves.

    python benchmarks/labels.py --work /folder/of/builds [--only clinc150] [--draws 100]

The builds are those of benchmarks/certificate.py, whose work folder holds <name>/outcomes and whose
recipes name the bundles. What the stages answered to a build's search and test rows is taken for a
whole population: rows are drawn from it with replacement, so that every policy's true loss is known
and pools may be of any size. Each draw searches anew, and walks the front on each pool by
`adaptive.certificate.asking`, in batches of 20 labels; on as many rows as the build certifies on it
is compared with the test of all labels. Then the same again where the search, too, is told only the
labels that a build asks for (`search_asked` in the record). The certification rows of the builds
have no part.

What a certificate costs is taken apart: `price_of_search` is the cost of the cheapest policy of the
searched line that truly keeps the level over that of the cheapest found on the whole population;
`price_of_test` is the cost of what is certified over that of the line's cheapest. Medians of draws.

`type1` is of labels_type1.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import labels_type1
import numpy as np
import records
from certificate_errors import searched
from labels_type1 import lost
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.outcomes import load_outcomes
from adaptive.bundle.store import load_bundle
from adaptive.certificate import asking
from adaptive.certificate.asking import Line
from adaptive.certifying.recertify import row_seed
from adaptive.config.steps import SearchConfig
from adaptive.policy.costs import CostTable
from adaptive.policy.fronts import front, order
from adaptive.policy.lookup import Lookup, is_bare, predicted, tier_alone
from adaptive.policy.search import search
from adaptive.policy.worth import concatenate, reclassified
from adaptive.risk import fixed_sequence, paired
from adaptive.training.ask_labels import rows_to_ask
from adaptive.types import OutcomeTable, Policy, Sampled, Target

HERE = Path(__file__).parent
BATCH = 20
DELTA = 0.05
# rows searched on, certified on by the build, and pools; the first is compared with all labels
SIZES = {
    "clinc150": (2_200, (4_000, 10_000, 40_000)),
    "ag_news": (1_500, (2_500, 5_000, 10_000, 50_000)),
    "sst2": (8_000, (20_000, 60_000)),
}
LARGE, FEWER = 20_000, 5  # of larger pools only every fifth draw
Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class People:
    """A population of recorded texts, drawn from with replacement."""

    table: OutcomeTable
    costs: CostTable
    target: Target
    search: SearchConfig
    routed: bool

    @property
    def lookup(self) -> Lookup:
        """Of every text there is."""
        return Lookup.of(self.table, self.costs.at(self.table.tokens))


@dataclass(frozen=True, slots=True)
class Front:
    """Policies found on a draw of search rows, and what they do with every text there is."""

    policies: list[Policy]
    answers: Labels  # [p, texts]
    prices: NDArray[np.float64]  # [p, texts]
    breaks: NDArray[np.bool_]  # [p] truly
    saves: NDArray[np.float64]  # [p] times less than the full tier alone
    guess: NDArray[np.float64]  # [p, 2]
    accuracy: tuple[int, int]  # search rows that the full tier has right, and all
    labels: int  # that the search was told

    @property
    def best(self) -> float:
        """How many times less the line's cheapest policy costs that truly keeps the level."""
        return float(self.saves[~self.breaks].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="of a single set, in place of its recipe's")
    parser.add_argument("--only", nargs="*", choices=[*SIZES, "type1"], default=[*SIZES, "type1"])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--record", type=Path, default=HERE / "records" / "certificate.json")
    given = parser.parse_args()
    for name in given.only:
        for found in labels_type1.counted(2_000) if name == "type1" else measure(name, given):
            record = records.read(given.record)
            kept = [each for each in record.get("labels", []) if each["data"] != name]
            records.write(given.record, record | {"labels": [*kept, *found]})
        for each in found:
            print(json.dumps(each))


def measure(name: str, given: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The figures of one data set, a line a pool, after each draw."""
    work = given.work / name
    bundle = load_bundle(given.bundle or work / "bundle", uncertified=True)
    people = people_of(bundle, work)
    search, pools = SIZES[name]
    return table_of(name, people, search, pools, given.draws)


def people_of(bundle: Bundle, work: Path) -> People:
    """The search and test rows of a build."""
    assert bundle.costs is not None, "the recipe minimises no measured time"
    stages = bundle.stages
    parts = [
        bundle.outcomes["search"],
        load_outcomes(work / "outcomes/test.safetensors", stages, "test"),
    ]
    routed = bundle.router is not None
    return People(concatenate(parts), bundle.costs, bundle.targets[0], SearchConfig(), routed)


def table_of(
    name: str, people: People, search: int, pools: tuple[int, ...], draws: int
) -> Iterator[list[dict[str, Any]]]:
    """Labels, savings and wrong certificates over draws, after each draw.

    A line a pool where the search knows all labels, then one where it asks for some.
    """
    lookup = people.lookup
    ideal = saving_of_oracle(people, lookup)
    runs: dict[tuple[bool, int], list[dict[str, float]]]
    runs = {(asked, pool): [] for asked in (False, True) for pool in pools}
    for draw in range(draws):
        rng = np.random.default_rng([7, draw])
        seen = rng.integers(0, len(people.table), search)
        drawn = {pool: rng.integers(0, len(people.table), pool) for pool in pools}
        for asked in (False, True):
            line = front_of(people, lookup, seen, draw if asked else None)
            for pool, rows in drawn.items():
                if pool > LARGE and draw % FEWER:
                    continue
                found = run(people, line, rows, draw, compare=pool == pools[0] and not asked)
                found |= {"search_labels": line.labels, "price_of_search": ideal / line.best}
                runs[asked, pool].append(found | {"price_of_test": line.best / found["time_ratio"]})
        yield [summed(name, *key, each) for key, each in runs.items() if each]


def saving_of_oracle(people: People, lookup: Lookup) -> float:
    """How many times less the cheapest policy costs that is found on the whole population."""
    target, sweeps = people.target, people.search.sweeps
    found = search(lookup, target, margin=0.0, sweeps=sweeps, routed=people.routed)
    tried = [each.policy for each in (*found, *front(lookup, target, found, sweeps=sweeps))]
    best = order(lookup, (target,), tried)[-1].policy
    full = tier_alone(people.table.stages, people.table.stages[-1].tier)
    return float(lookup.evaluate(full).cost.mean() / lookup.evaluate(best).cost.mean())


def told_few_labels(table: OutcomeTable, seed: int) -> tuple[OutcomeTable, int]:
    """Search rows with the labels that a build asks for, and their number."""
    sample, rows = rows_to_ask(table, seed)
    labels = np.full(len(table), -1, dtype=np.int32)
    labels[rows] = table.labels[rows]
    right = int((table.reference[sample] == labels[sample]).sum())
    few = reclassified(table, labels=labels)
    return replace(few, sampled=Sampled(right, len(sample))), len(rows)


def front_of(
    people: People, lookup: Lookup, rows: NDArray[np.int64], seed: int | None = None
) -> Front:
    """The front of a draw of search rows; with a seed, where only some labels are asked for."""
    table, config = people.table.take(rows), people.search
    right, seen, labels = int((table.reference == table.labels).sum()), len(table), len(table)
    if seed is not None:
        table, labels = told_few_labels(table, seed)
        assert table.sampled is not None
        right, seen = table.sampled.right, table.sampled.texts
    ordered = searched(
        table,
        people.costs,
        (people.target,),
        config.margin,
        config.sweeps,
        routed=people.routed,
    )
    results = [lookup.evaluate(policy) for policy in ordered]
    answers = np.stack([predicted(result, people.table) for result in results])
    prices = np.stack([result.cost for result in results])
    whole = people.table
    worse, better = lost_and_won(answers, whole.reference, whole.labels)
    accuracy = (whole.reference == whole.labels).mean()
    full = tier_alone(whole.stages, whole.stages[-1].tier)
    here = lost_and_won(answers[:, rows], table.reference, table.labels)
    differs = (answers[:, rows] != table.reference).sum(1)
    return Front(
        ordered,
        answers,
        prices,
        (worse - better) / len(whole) > people.target.level * accuracy,
        lookup.evaluate(full).cost.mean() / prices.mean(1),
        np.stack([(each + 1) / (differs + 3) for each in here], 1),
        (right, seen),
        labels,
    )


def lost_and_won(
    answers: Labels, reference: Labels, labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that only the full tier, and only the policy has right, [p] each."""
    differs = answers != reference
    return (differs & (labels == reference)).sum(1), (differs & (labels == answers)).sum(1)


def run(
    people: People, front: Front, rows: NDArray[np.int64], draw: int, *, compare: bool
) -> dict[str, float]:
    """One pool: labels that were asked, and what is certified."""
    whole = people.table
    labels, reference = whole.labels[rows], whole.reference[rows]
    sure, answers = whole.worth.own, front.answers[:, rows]
    line = Line(
        answers != reference,
        people.target.level * asking.accuracy_bound(*front.accuracy, DELTA),
        asking.error_of_tests(DELTA),
        np.array([sure and each == 0 and is_bare(p) for each, p in enumerate(front.policies)]),
        front.guess,
        row_seed(draw),
    )
    known = np.full(len(rows), -1, dtype=np.int32)
    passed = asking.standing(line, lost(answers, reference, known)).passed
    last = 0  # labels with which the last policy passed; what came behind proved that no more does
    while len(chosen := asking.next_rows(line, lost(answers, reference, known), BATCH)):
        known[chosen] = labels[chosen]
        before, passed = passed, asking.standing(line, lost(answers, reference, known)).passed
        last = int((known >= 0).sum()) if passed > before else last
    found = {
        "labels": int((known >= 0).sum()),
        "labels_to_the_last_pass": last,
        "differing": int(line.differs.any(0).sum()),
        **judged(front, rows, passed, ""),
    }
    if compare:
        worse, better = lost_and_won(answers, reference, labels)
        both = (reference == labels).sum() - worse
        right, seen = front.accuracy
        p_values = paired(
            worse, better, both, len(rows), people.target.level, accuracy=right / seen, delta=DELTA
        )
        end = fixed_sequence(np.where(line.sure, 0.0, p_values), DELTA)
        found |= judged(front, rows, 0 if end is None else end + 1, "_all_labels")
    return found


def judged(front: Front, rows: NDArray[np.int64], passed: int, name: str) -> dict[str, float]:
    """What is saved by the cheapest that passed, and whether any that passed breaks the level."""
    served = int(np.argmin(front.prices[: max(passed, 1), rows].mean(1)))
    return {
        f"time_ratio{name}": float(front.saves[served]),
        f"wrong{name}": bool(front.breaks[:passed].any()),
    }


def summed(name: str, asked: bool, pool: int, runs: list[dict[str, float]]) -> dict[str, Any]:
    """One line of the record."""
    columns = {key: np.array([each[key] for each in runs]) for key in runs[0]}
    found: dict[str, Any] = {
        "data": name,
        "pool": pool,
        "search_asked": asked,
        "search_labels": round(float(columns["search_labels"].mean()), 1),
        "labels": round(float(columns["labels"].mean()), 1),
        "labels_95": round(float(np.quantile(columns["labels"], 0.95)), 1),
        "labels_to_the_last_pass": round(float(columns["labels_to_the_last_pass"].mean()), 1),
        "differing": round(float(columns["differing"].mean()), 1),
        "batch": BATCH,
        "draws": len(runs),
    }
    for key, values in columns.items():
        if key.startswith("price"):
            found[key] = round(float(np.median(values)), 3)
        elif key.startswith("time_ratio"):
            found[key] = round(float(np.median(values)), 3)
            found[f"{key}_mean"] = round(float(values.mean()), 3)
        elif key.startswith("wrong"):
            found[key] = int(values.sum())
    return found


if __name__ == "__main__":
    main()
