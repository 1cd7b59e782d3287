"""How many labels a certificate takes where they are asked for one by one, and what it then saves.

    python benchmarks/labels.py --work /folder/of/builds [--only clinc150] [--draws 100]

The builds are those of benchmarks/certificate.py, whose work folder holds <name>/outcomes and whose
recipes name the bundles. What the stages answered to a build's search and test rows is taken for a
whole population: rows are drawn from it with replacement, so that every policy's true loss is known
and pools may be of any size. Each draw searches anew, and walks the front on each pool by
`adaptive.asking`, in batches of 20 labels; on as many rows as the build certifies on it is compared
with the test of all labels. The certification rows of the builds have no part in it.

`type1` counts wrong certificates on the boundary: policies within, at and beyond the level, labels
asked of those rows first that speak for the policies, the accuracy's bound drawn anew each time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certificate_errors
import numpy as np
import records
from certificate_errors import searched
from numpy.typing import NDArray

from adaptive import asking
from adaptive.asking import Line
from adaptive.bundle.contents import Bundle
from adaptive.bundle.outcomes import load_outcomes
from adaptive.bundle.store import load_bundle
from adaptive.certifying import row_seed
from adaptive.config.steps import SearchConfig
from adaptive.costs import CostTable
from adaptive.policy import Lookup, is_bare, predicted, tier_alone
from adaptive.risk import fixed_sequence, paired
from adaptive.types import OutcomeTable, Policy, Target
from adaptive.worth import concatenate

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="of a single set, in place of its recipe's")
    parser.add_argument("--only", nargs="*", choices=[*SIZES, "type1"], default=[*SIZES, "type1"])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--record", type=Path, default=HERE / "records" / "certificate.json")
    given = parser.parse_args()
    for name in given.only:
        for found in type1(2_000) if name == "type1" else measure(name, given):
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
    """Labels, savings and wrong certificates over draws, a line a pool, after each draw."""
    lookup = people.lookup
    runs: dict[int, list[dict[str, float]]] = {pool: [] for pool in pools}
    for draw in range(draws):
        rng = np.random.default_rng([7, draw])
        front = front_of(people, lookup, rng.integers(0, len(people.table), search))
        for pool in pools:
            if pool > LARGE and draw % FEWER:
                continue
            rows = rng.integers(0, len(people.table), pool)
            runs[pool].append(run(people, front, rows, draw, compare=pool == pools[0]))
        yield [summed(name, pool, each) for pool, each in runs.items() if each]


def front_of(people: People, lookup: Lookup, rows: NDArray[np.int64]) -> Front:
    """The front of a draw of search rows."""
    table, config = people.table.take(rows), people.search
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
    right = (whole.reference == whole.labels).mean()
    full = tier_alone(whole.stages, whole.stages[-1].tier)
    here = lost_and_won(answers[:, rows], table.reference, table.labels)
    differs = (answers[:, rows] != table.reference).sum(1)
    return Front(
        ordered,
        answers,
        prices,
        (worse - better) / len(whole) > people.target.level * right,
        lookup.evaluate(full).cost.mean() / prices.mean(1),
        np.stack([(each + 1) / (differs + 3) for each in here], 1),
        (int((table.reference == table.labels).sum()), len(table)),
    )


def lost_and_won(
    answers: Labels, reference: Labels, labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that only the full tier, and only the policy has right, [p] each."""
    differs = answers != reference
    return (differs & (labels == reference)).sum(1), (differs & (labels == answers)).sum(1)


def lost(answers: Labels, reference: Labels, labels: Labels) -> NDArray[np.float64]:
    """What each policy loses on each row, [p, n], NaN where it depends on an unknown label, -1."""
    found = np.where(labels < 0, np.nan, (labels == reference) * 1.0 - (labels == answers))
    return np.where(answers != reference, found, 0.0)


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


def summed(name: str, pool: int, runs: list[dict[str, float]]) -> dict[str, Any]:
    """One line of the record."""
    columns = {key: np.array([each[key] for each in runs]) for key in runs[0]}
    found: dict[str, Any] = {
        "data": name,
        "pool": pool,
        "labels": round(float(columns["labels"].mean()), 1),
        "labels_95": round(float(np.quantile(columns["labels"], 0.95)), 1),
        "labels_to_the_last_pass": round(float(columns["labels_to_the_last_pass"].mean()), 1),
        "differing": round(float(columns["differing"].mean()), 1),
        "batch": BATCH,
        "draws": len(runs),
    }
    for key, values in columns.items():
        if key.startswith("time_ratio"):
            found[key] = round(float(np.median(values)), 3)
            found[f"{key}_mean"] = round(float(values.mean()), 3)
        elif key.startswith("wrong"):
            found[key] = int(values.sum())
    return found


def type1(draws: int, rows: int = 400, other: int = 300) -> Iterator[list[dict[str, Any]]]:
    """Wrong certificates where the second of three policies loses just what the level allows.

    Told every hundred draws.
    """
    accuracy, level = 0.9, 0.05
    told = f"a policy at the level, {rows} rows, accuracy bounded from {other} others"
    wrong = labels_asked = 0
    for draw in range(draws):
        rng = np.random.default_rng([8, draw])
        line, answers, reference, labels = boundary(rng, rows, other, accuracy, level)
        known = np.full(rows, -1, dtype=np.int32)
        won = (answers == labels) & line.differs
        order = np.argsort(~won.any(0), kind="stable")  # what speaks for a policy comes first
        for few in np.array_split(order[line.differs.any(0)[order]], 8):
            known[few] = labels[few]
            here = asking.standing(line, lost(answers, reference, known))
            if here.passed > 1 or here.end != "asking":
                break
        wrong += here.passed > 1
        labels_asked += int((known >= 0).sum())
        if not (draw + 1) % 100:
            asked = round(labels_asked / (draw + 1), 1)
            count = certificate_errors.line(told, draw + 1, wrong)
            yield [{"data": "type1", "pool": rows, "labels": asked, "time_ratio": None} | count]


def boundary(
    rng: np.random.Generator, rows: int, other: int, accuracy: float, level: float
) -> tuple[Line, Labels, Labels, Labels]:
    """A line whose first policy loses half of what the level allows, its second just that, its
    third more; the answers [p, n] behind it, the full tier's and the labels."""
    better = 0.02
    worse = better + accuracy * level
    kind = rng.choice(3, rows, p=[worse, better, 1.0 - worse - better])
    labels = np.zeros(rows, dtype=np.int32)
    both = (accuracy - worse) / (1.0 - worse - better)  # of the rows that do not differ
    full_right = (kind == 0) | ((kind == 2) & (rng.random(rows) < both))
    reference = np.where(full_right, 0, 1).astype(np.int32)
    differing = np.where(kind == 0, 2, 0).astype(np.int32)
    ease = rng.random(rows)
    at = np.where(kind < 2, differing, reference)
    within = np.where((kind < 2) & (ease < 0.5), differing, reference)
    beyond = np.where((kind == 2) & full_right & (ease < 0.01), 2, at)
    answers = np.stack([within, at, beyond])
    bound = asking.accuracy_bound(int(rng.binomial(other, accuracy)), other, DELTA)
    error = asking.error_of_tests(DELTA)
    none = np.zeros(3, dtype=np.bool_)
    line = Line(answers != reference, level * bound, error, none, np.full((3, 2), 0.4))
    return line, answers, reference, labels


if __name__ == "__main__":
    main()
