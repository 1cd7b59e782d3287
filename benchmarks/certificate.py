"""Certified cascades on three real data sets, and how often such certificates are wrong.

    python benchmarks/certificate.py --data FOLDER [--only clinc150] [--work runs/certificate]

FOLDER holds clinc150/, ag_news/ and sst2/, each with train.csv, validation.csv and test.csv
(columns text, label). The recipes, in benchmarks/recipes/certificate, promise that accuracy falls
by at most 1 % of the full tier's, 95 % sure, and minimise measured milliseconds. Besides the data
sets there are two parts more: `type1`, wrong certificates counted (certificate_errors.py; it
needs the SST-2 build), and `power` (certificate_power.py).

Builds resume, so a second run only measures anew; `--force costs` measures the cost table anew
too, and with it searches and tests. The record is rewritten after each part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import certificate_errors
import certificate_power
import numpy as np
import records
from certificate_rows import BATCH, Labelled, Pool, held_out, pool_of, unused
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.policies import policy_to_json, targets_to_json
from adaptive.bundle.store import load_bundle
from adaptive.config import Recipe, load_recipe
from adaptive.config.steps import SearchConfig
from adaptive.measure.evaluation import REPEATS, TIMED, in_float32, report, timings
from adaptive.measure.recording import outcomes
from adaptive.measure.timing import measure_costs
from adaptive.policy.costs import CostTable
from adaptive.policy.fronts import front, order
from adaptive.policy.lookup import Lookup, predicted, tier_alone
from adaptive.policy.search import search
from adaptive.training.build import build
from adaptive.training.data import Dataset, load_data
from adaptive.training.rows import load_rows
from adaptive.types import OutcomeTable, Policy, Tokens

HERE = Path(__file__).parent
SETS = ("clinc150", "ag_news", "sst2")
PARTS = (*SETS, "type1", "power")
FLOORS = {"clinc150": 8.0, "ag_news": 5.0, "sst2": 2.0}  # of the certified time ratio
ROUNDS = 3  # of `timings`, each of which is a median already
RESPLITS = 20

WORDS = {
    "time_ratio_certified": "milliseconds of the full tier alone, in float32, over the certified "
    "policy's, by the clock: token rows to answers in batches of 32, the policies taking turns",
    "time_ratio_over_int8": "the same over the full tier alone as the cascade runs it, in int8",
    "time_ratio_oracle": "the same for the cheapest policy found that keeps the level on the very "
    "rows judged on, searched there: a yardstick that promises nothing",
    "price_of_certificate": "the certified policy's milliseconds over the oracle's, less 1",
    "by_cost_table": "the same three by the measured cost table, which the searches minimise; the "
    "full tier is then the one that the cascade runs",
    "risk_on_test": "accuracy lost on the rows judged on, as a share of the full tier's; below 0 "
    "where some was won; risk_error is its standard error",
    "judged_on": "test: the data's own test rows. unused: rows of the training files that no step "
    "has seen; then the data's own test, which is of another kind, stands in shifted_test",
    "over_splits": "the same search and test where the rows of search, certify and those judged "
    "on are dealt anew at random: cost_ratio is time_ratio_certified by the cost table",
    "deals_later": "over_splits of the same build again: by its cost table, and by one measured at "
    "the commit named",
    "deals_with": "over_splits of a build whose recipe differs so, by its own cost table",
    "type1": "wrong certificates among so many draws; allowed is delta and three Monte-Carlo "
    "standard errors",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--work", type=Path, default=Path("runs/certificate"))
    parser.add_argument("--force", help="a step of the builds to do again, such as costs")
    parser.add_argument("--set", nargs="*", default=[], help="of the recipe, with --deals")
    parser.add_argument("--deals", action="store_true", help="only these, by costs of now")
    parser.add_argument("--record", type=Path, default=HERE / "records" / "certificate.json")
    given = parser.parse_args()
    if given.set and not given.deals:
        parser.error("--set changes what is certified: it goes with --deals alone")
    for part in given.only:
        if part == "power":
            found: Any = certificate_power.powers(0)
        elif part == "type1":
            recipe, data = built("sst2", given.data, given.work)
            bundle = load_bundle(recipe.output)
            pool = pool_of(bundle, given.work / "sst2", unused(recipe, data, bundle))
            found = certificate_errors.everything(bundle, pool, recipe.search)
        else:
            recipe, data = built(part, given.data, given.work, given.force, given.set)
            if given.deals:
                kept = records.read(given.record)[part]
                found = kept | deals(recipe, data, given.work / part, given.set, kept)
            else:
                found = run(recipe, data, given.work / part) | {"floor": FLOORS[part]}
        record = records.read(given.record) | {"words": WORDS, part: found}
        records.write(given.record, record)
        print(json.dumps({part: found}, indent=1))


def built(
    name: str, data: Path, work: Path, force: str | None = None, changes: Sequence[str] = ()
) -> tuple[Recipe, Dataset]:
    """A data set's recipe and rows, with its bundle where the recipe says."""
    recipe = load_recipe(
        HERE / "recipes" / "certificate" / f"{name}.yaml",
        [f"data.source={data / name}", f"output={work / name / 'bundle'}", *changes],
    )
    rows = held_out(name, load_data(recipe.data, recipe.seed))
    build(recipe, work / name, data=rows, force=force)
    return recipe, rows


def run(recipe: Recipe, data: Dataset, work: Path) -> dict[str, Any]:
    """What a finished build has certified, and how that does on rows of no split but test."""
    bundle = load_bundle(recipe.output)
    certificate, sweeps = bundle.certificate, recipe.search.sweeps
    assert certificate is not None, "the recipe asks for no certificate"
    test, judged, pool = rows_of(recipe, data, work, bundle)
    spare = judged is not test
    rows = json.loads((work / "data" / "step.json").read_text())["figures"]
    found = {
        "verdict": certificate.verdict,
        "headline": certificate.headline,
        "rows_needed": certificate.rows_needed,
        "n_certify": certificate.n,
        "looks": certificate.looks,
        "confidence_proved": certificate.confidence_proved,
        "delta": round(certificate.delta, 6),
        "targets": targets_to_json(certificate.targets),
        "rows": rows | {"unused": len(judged[0]) if spare else 0},
        "front": {"policies": len(certificate.front), "certified": certificate.certified},
        "judged_on": "unused" if spare else "test",
        **figures(bundle, judged[0], pool.table.take(slice(-len(judged[0]), None)), sweeps),
        "router": None if bundle.router is None else bundle.router.kind,
        "policy": policy_to_json(bundle.policy),
        "seeds": {"recipe": recipe.seed, **certificate.seeds},
        "commit": records.commit(),
        "over_splits": over_splits(bundle, pool, recipe.search),
    }
    if spare:
        found["shifted_test"] = figures(bundle, test[0], outcomes(bundle, *test, BATCH), sweeps)
    return found


def deals(
    recipe: Recipe, data: Dataset, work: Path, changes: Sequence[str], kept: dict[str, Any]
) -> dict[str, Any]:
    """The rows of a finished build dealt anew.

    By its cost table, and by one measured now where it is not of a changed recipe.
    """
    bundle = load_bundle(recipe.output)
    pool = rows_of(recipe, data, work, bundle)[2]
    own = over_splits(bundle, pool, recipe.search)
    if changes:
        told = {" ".join(changes): own | {"commit": records.commit()}}
        return {"deals_with": kept.get("deals_with", {}) | told}
    costs = measure_costs(
        bundle.tiers,
        bundle.reliability,
        bundle.device,
        batch_size=recipe.cost.batch_size,
        lengths=[int(each) for each in prices(bundle).lengths],
        repeats=recipe.cost.repeats,
    )
    now = over_splits(replace(bundle, costs=costs), pool, recipe.search)
    return {"deals_later": {"before": own, "now": now, "commit": records.commit()}}


def rows_of(
    recipe: Recipe, data: Dataset, work: Path, bundle: Bundle
) -> tuple[Labelled, Labelled, Pool]:
    """Test rows, those to judge on, and all that may be dealt, the rows judged on last."""
    test, spare = load_rows(work / "data" / "test.safetensors"), unused(recipe, data, bundle)
    judged = spare if len(spare[0]) else test
    return test, judged, pool_of(bundle, work, judged)


def figures(bundle: Bundle, tokens: Tokens, table: OutcomeTable, sweeps: int) -> dict[str, Any]:
    """The bundle's policy on these rows, beside the full tier alone and the oracle."""
    costs = prices(bundle)
    lookup = Lookup.of(table, costs.at(table.tokens))
    policies = (
        bundle.policy,
        oracle(bundle, lookup, sweeps),
        tier_alone(bundle.stages, len(bundle.tiers) - 1),
    )
    read = [float(lookup.evaluate(policy).cost.mean()) for policy in policies]
    seen = report(bundle, bundle.policy, table)
    return {
        "texts": len(tokens),
        **by_clock(bundle, policies, tokens),
        "by_cost_table": {"unit": costs.unit, **ratios(read)},
        "work_ratio": seen["work_ratio"],
        **risk(table, predicted(lookup.evaluate(bundle.policy), table)),
        "stage_shares": seen["stage_shares"],
        "timing": {"texts": min(TIMED, len(tokens)), "repeats": ROUNDS * REPEATS, "batch": BATCH},
    }


def over_splits(bundle: Bundle, pool: Pool, config: SearchConfig) -> dict[str, Any]:
    """Verdicts and savings had the rows fallen otherwise: searched, certified and judged anew."""
    sizes = (len(bundle.outcomes["search"]), len(bundle.outcomes["certify"]))
    count = certificate_errors.splits(
        pool,
        prices(bundle),
        bundle.targets,
        config,
        routed=bundle.router is not None,
        draws=RESPLITS,
        sizes=sizes,
    )
    return {name: count[name] for name in ("draws", "verdicts", "cost_ratio")}


def prices(bundle: Bundle) -> CostTable:
    """The measured costs."""
    assert bundle.costs is not None, "the recipe minimises no measured time"
    return bundle.costs


def oracle(bundle: Bundle, lookup: Lookup, sweeps: int) -> Policy:
    """The cheapest policy found that keeps the target on these very rows, with nothing to spare."""
    targets, routed = bundle.targets, bundle.router is not None
    found = search(lookup, targets, margin=0.0, sweeps=sweeps, routed=routed)
    line = front(lookup, targets, found, sweeps=sweeps)
    tried = [each.policy for each in (*found, *line)]
    return order(lookup, targets, [*tried, bundle.policy])[-1].policy


def by_clock(
    bundle: Bundle, policies: tuple[Policy, Policy, Policy], tokens: Tokens
) -> dict[str, float]:
    """Ratios of the milliseconds of the certified policy, the oracle and the full tier alone."""
    ways = {str(number): policy for number, policy in enumerate(dict.fromkeys(policies))}
    plain, rounds = in_float32(bundle), []
    for _ in range(ROUNDS):  # of medians that take turns
        rounds.append(timings(bundle, ways, tokens, BATCH))
        if bundle.tiers[-1].int8:
            rounds[-1] |= timings(plain, {"float32": policies[-1]}, tokens, BATCH)
    times = {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]}
    certified, best, served = (
        times[name] for policy in policies for name, way in ways.items() if way == policy
    )
    if "float32" not in times:
        return ratios([certified, best, served])
    found = ratios([certified, best, times["float32"]])
    return found | {"time_ratio_over_int8": served / certified}


def ratios(costs: list[float]) -> dict[str, float]:
    """The three figures, from the costs of the certified policy, the oracle and the full tier."""
    certified, best, full = costs
    return {
        "time_ratio_certified": full / certified,
        "time_ratio_oracle": full / best,
        "price_of_certificate": certified / best - 1.0,
    }


def risk(table: OutcomeTable, prediction: NDArray[np.int32]) -> dict[str, float]:
    """The drop in accuracy, its standard error (of a ratio, to first order), and the accuracies."""
    full = (table.reference == table.labels).astype(np.float64)
    right = (prediction == table.labels).astype(np.float64)
    drop = float(1.0 - right.mean() / full.mean())
    error = ((1.0 - drop) * full - right).std() / full.mean() / np.sqrt(len(table))
    return {
        "risk_on_test": drop,
        "risk_error": float(error),
        "accuracy_full": float(full.mean()),
        "accuracy_policy": float(right.mean()),
    }


if __name__ == "__main__":
    main()
