"""What routing between recorded language models saves at a certified loss, on public tables.

    python benchmarks/llm.py --data /folder/of/outcomes [--only gsm8k] [--resplits 100]

The tables are not part of the project: MMLU-Pro's published answers (TIGER-AI-Lab, Apache-2.0),
ZeroEval's GSM8K (WildEval, Apache-2.0), RouteLLM's MMLU (lm-sys, Apache-2.0) and WildBench v2
(allenai, Apache-2.0, graded by a judge). Tokens were not counted, so letters / 4 stand in; prices
are list prices of the year given beside them, in dollars per million tokens. What is searched,
tested and proved is exactly what `adaptive certify outcomes.jsonl` does.

Estimates are fitted once, on a quarter of the rows. The other rows are dealt a hundred times anew
into rows to search on, to certify on and to judge on.

`wrong` counts the deals in which what was certified breaks the level on the rows to judge on. These
are few and have an error of their own: `by_error` is how many deals they are expected to condemn
wrongly, where the level is kept on the certification rows and these together. `allowed` is 5 % of
the deals, and `by_error`, and what chance adds to both in nineteen of twenty records.
`wrong_of_all` counts deals that break the level on both kinds of rows together, of which the
certification rows are a random sample: it is at most 5 % in expectation without error of judging.
All deals share one pool, so that rows that are lucky to certify on leave unlucky ones to judge on:
`wrong` may be above `allowed` though `wrong_of_all` is far below.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llm_routers as routers
import numpy as np
import records
from llm_routers import Rows, level_threshold, share_threshold
from numpy.typing import NDArray
from scipy.stats import binom, norm

from adaptive.certificate.claims import try_target
from adaptive.certifying.recertify import row_seed
from adaptive.policy.lookup import Lookup, is_bare
from adaptive.policy.search import Found
from adaptive.recorded.dealing import deal
from adaptive.recorded.judging import fit_judges
from adaptive.recorded.layouts import Layout, judged, layouts
from adaptive.recorded.lines import line_of, searched, served_of, table_for
from adaptive.recorded.outcomes import Outcomes
from adaptive.recorded.preparing import Prepared, prepare
from adaptive.recorded.prices import price_list
from adaptive.recorded.reading import Source, read_outcomes
from adaptive.recorded.scorers import scorer_of
from adaptive.recorded.verdicts import verdict_of
from adaptive.types import OutcomeTable, Policy, Target

HERE = Path(__file__).parent
RECORD = HERE / "records" / "llm.json"
LEVELS = (0.01, 0.02, 0.05, 0.1)
FIT, SEARCH, CERTIFY = 0.25, 0.17, 0.3  # shares of the requests; the rest judges
DELTA = 0.05

# dollars per million tokens, input and output: list prices, with their year
PRICES = {
    "gemini-1.5-flash-002": (0.075, 0.30),  # Google, October 2024
    "gemini-1.5-pro-002": (1.25, 5.00),  # Google, October 2024
    "Meta-Llama-3_1-70B-Instruct": (0.88, 0.88),  # Together, 2024
    "Meta-Llama-3_1-8B-Instruct": (0.18, 0.18),  # Together, 2024
    "Meta-Llama-3.1-8B-Instruct": (0.18, 0.18),  # Together, 2024
    "mixtral-8x7b-instruct": (0.60, 0.60),  # Together, 2024
    "gpt-4-1106-preview": (10.0, 30.0),  # OpenAI, November 2023
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),  # OpenAI, July 2024
    "gpt-4o-2024-08-06": (2.50, 10.0),  # OpenAI, August 2024
    "claude-3-5-sonnet-20241022": (3.00, 15.0),  # Anthropic, October 2024
    "reka-flash-20240226": (0.80, 2.00),  # Reka, 2024
    "reka-core-20240501": (10.0, 25.0),  # Reka, 2024
}


@dataclass(frozen=True, slots=True)
class Case:
    """A table and the tiers that are routed between, cheapest first."""

    table: str
    tiers: tuple[str, ...]
    read: Callable[[Path, tuple[str, ...]], Outcomes]
    scorer: str = "exact"


def mmlu_pro(folder: Path, tiers: tuple[str, ...]) -> Outcomes:
    """Letters answered, against the right one; prompts lie in a file of their own."""
    source = Source(
        folder / "mmlu_pro_outcomes.csv",
        columns={"group": "category", "right": "answer", "characters": "chars"},
        scorer="exact",
        tiers=tiers,
    )
    found = read_outcomes(source)
    with (folder / "mmlu_pro_prompts.csv").open(encoding="utf-8", newline="") as file:
        texts = {row["id"]: f"{row['question']}\n{row['options']}" for row in csv.DictReader(file)}
    prompts = np.array([texts[name] for name in found.ids], dtype=object)
    return replace(found, requests={**found.requests, "prompt": prompts})


def gsm8k(folder: Path, tiers: tuple[str, ...]) -> Outcomes:
    """Right or wrong, with the number answered."""
    columns = {"score": "right", "characters": "chars_out"}
    return read_outcomes(Source(folder / "zeroeval_gsm.jsonl", columns=columns, tiers=tiers))


def mmlu(folder: Path, tiers: tuple[str, ...]) -> Outcomes:
    """Right or wrong; answers are a letter, hence four signs."""
    source = Source(folder / "routellm_mmlu.csv", columns={"group": "subject"}, tiers=tiers)
    found = read_outcomes(source)
    return replace(found, numbers={"characters": np.full(found.score.shape, 4.0)})


def wildbench(folder: Path, tiers: tuple[str, ...]) -> Outcomes:
    """A judge's marks from 1 to 10; prompts are not in the table, so input costs nothing."""
    source = Source(
        folder / "wildbench_v2.jsonl",
        columns={"characters": "chars_out"},
        scale=(1.0, 10.0),
        tiers=tiers,
    )
    return read_outcomes(source)


FLASH, PRO = "gemini-1.5-flash-002", "gemini-1.5-pro-002"
SMALL, LARGE = "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct"
MINI, OMNI = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
CASES = (
    Case("gsm8k", (MINI, OMNI), gsm8k, "number"),
    Case("wildbench", ("reka-flash-20240226", "reka-core-20240501"), wildbench),
    Case("mmlu_pro", (FLASH, PRO), mmlu_pro),
    Case("mmlu_pro", (FLASH, LARGE, PRO), mmlu_pro),
    Case(
        "gsm8k",
        ("Meta-Llama-3.1-8B-Instruct", MINI, "claude-3-5-sonnet-20241022"),
        gsm8k,
        "number",
    ),
    Case("routellm_mmlu", ("mixtral-8x7b-instruct", "gpt-4-1106-preview"), mmlu),
    Case("mmlu_pro", (SMALL, LARGE), mmlu_pro),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that is the same in all deals of a case."""

    ready: Prepared  # of the rows that are dealt
    looked: dict[Layout, Lookup]
    routers: dict[str, Rows]
    fitted: dict[str, str]  # kind of each estimate


def tables_of(case: Case, folder: Path) -> Tables:
    """Read a case, fit its estimates on a quarter of the rows, and look all others up."""
    outcomes = case.read(folder, case.tiers)
    listed = price_list({m: {"input": a, "output": b} for m, (a, b) in PRICES.items()})
    scorer = scorer_of(case.scorer)
    metric = "score_drop" if case.table == "wildbench" else "accuracy_drop"
    ready = prepare(
        outcomes, (Target(metric, 0.02),), tiers=case.tiers, prices=listed, scorer=scorer
    )
    dealt = deal(ready.outcomes, 0, {"fit": FIT, "search": 0.0, "certify": 1.0 - FIT})
    fit, rest = ready.taken(dealt.rows["fit"]), ready.taken(dealt.rows["certify"])
    tried = layouts(case.tiers)
    judges, fits = fit_judges(fit.outcomes, fit.gains, judged(tried), scorer, fit.full_costs)
    looked = {}
    for layout in tried:
        table = table_for(layout, rest, judges)
        looked[layout] = Lookup.of(table, rest.costs(layout).of(table))
    features = judges.prompts(fit.outcomes), judges.prompts(rest.outcomes)
    ends = [0, len(case.tiers) - 1]
    rivals = {}
    if features[0].shape[1]:
        alone = looked[layouts(case.tiers)[-1]]
        cost = np.stack([alone.bare[:, 1], alone.bare[:, -1]], 1)
        told = routers.scores_of(*features, fit.outcomes.score[:, ends])
        rivals = {
            name: Rows(each, rest.outcomes.score[:, ends], cost) for name, each in told.items()
        }
    return Tables(rest, looked, rivals, {name: each.kind for name, each in fits.items()})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one deal came to at one level."""

    policy: Policy
    front: tuple[Policy, ...]
    certified: int
    saving: float
    kept: float
    excess: float  # mean on the rows to judge on; the level is broken where it is above 0
    of_all: float  # mean on the rows to certify and to judge on
    error: float  # standard error of the former about the latter
    layout: Layout


def dealt_rows(rows: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Rows to search on, to certify on and to judge on."""
    order = np.random.default_rng([seed, 99]).permutation(rows)
    share = rows / (1.0 - FIT)
    ends = [round(SEARCH * share), round((SEARCH + CERTIFY) * share)]
    return tuple(np.sort(part) for part in np.split(order, ends))


def run(found: Tables, target: Target, seed: int) -> Outcome:
    """Search, certify and judge one deal."""
    search_rows, certify_rows, judge_rows = dealt_rows(len(found.ready.outcomes), seed)
    ladders = []
    for layout, lookup in found.looked.items():
        part = lookup.take(search_rows)
        ladders.append((layout, part, searched(part, target)))
    layout, part, ladder = min(ladders, key=lambda each: each[2][0].rank)
    line = line_of(part, ladder, target, len(certify_rows))
    policies = [each.policy for each in line]
    lookup = found.looked[layout]
    accuracy = float(part.table.worth.reference.mean(dtype=np.float64))
    certified = passed(policies, lookup.take(certify_rows), target, seed, accuracy)
    served = cheapest(line, certified, lookup.take(certify_rows))
    rest = lookup.take(judge_rows)
    did = rest.evaluate(served)
    full = rest.table.worth.reference.astype(np.float64)
    excess = (1.0 - target.level) * full - did.score
    others = lookup.take(certify_rows)
    known = others.evaluate(served).score
    other = (1.0 - target.level) * others.table.worth.reference.astype(np.float64) - known
    every = np.concatenate([excess, other])
    return Outcome(
        policy=served,
        front=tuple(policies),
        certified=certified,
        saving=float(rest.bare[:, -1].mean() / did.cost.mean()),
        kept=float(did.score.mean() / full.mean()),
        excess=float(excess.mean()),
        of_all=float(every.mean()),
        error=float(every.std() * np.sqrt(1.0 / len(excess) - 1.0 / len(every))),
        layout=layout,
    )


def cheapest(line: Sequence[Found], certified: int, lookup: Lookup) -> Policy:
    """The certified policy that is served, by what all cost on the certification rows."""
    kept = [each.policy for each in line[: max(certified, 1)]]
    return served_of(kept, [float(lookup.evaluate(policy).cost.mean()) for policy in kept])


def passed(
    policies: Sequence[Policy], lookup: Lookup, target: Target, seed: int, accuracy: float
) -> int:
    """How many of the front pass: the fixed sequence, tested a few at a time up to its end."""
    table: OutcomeTable = lookup.table
    for start in range(0, len(policies), 10):
        some = policies[start : start + 10]
        results = [lookup.evaluate(policy) for policy in some]
        ceilings = np.full(len(some), np.inf)
        trial = try_target(
            target, some, results, ceilings, table, row_seed(seed), "paired", accuracy
        )
        failed = np.flatnonzero(trial.p_values[0] > DELTA)
        if len(failed):
            return start + int(failed[0])
    return len(policies)


def told_of(case: Case, found: Tables, level: float, resplits: int) -> dict[str, Any]:
    """One entry of the record."""
    metric = "accuracy_drop" if found.looked[next(iter(found.looked))].table.worth.exact else ""
    target = Target(metric or "score_drop", level)
    start = time.time()
    every = [run(found, target, seed) for seed in range(1, resplits + 1)]
    first = every[0]
    savings = np.array([each.saving for each in every])
    by_error = sum(
        float(norm.cdf(each.of_all / max(each.error, 1e-12))) for each in every if each.of_all <= 0
    )
    entry = {
        "table": case.table,
        "tiers": list(case.tiers),
        "unit": "dollars",
        "metric": target.metric,
        "level": level,
        "verdict": verdict_of(
            first.policy, first.layout, first.certified, len(first.front), first.saving
        ),
        "saving": round(first.saving, 3),
        "oracle": round(oracle(found, level), 3),
        "kept_on_test": round(first.kept, 4),
        "policies": {"certified": first.certified, "front": len(first.front)},
        "resplits": {
            "n": resplits,
            "wrong": sum(each.excess > 0.0 for each in every),
            "allowed": int(binom.ppf(0.95, resplits, min(DELTA + by_error / resplits, 1.0))),
            "by_error": round(by_error, 1),
            "wrong_of_all": sum(each.of_all > 0.0 for each in every),
            "allowed_of_all": int(binom.ppf(0.95, resplits, DELTA)),
            "saving_p5_p50_p95": [round(x, 3) for x in np.quantile(savings, (0.05, 0.5, 0.95))],
            "kept_p5_p50_p95": [
                round(x, 4) for x in np.quantile([e.kept for e in every], (0.05, 0.5, 0.95))
            ],
            "replaced": int(sum(is_bare(e.policy) and e.saving > 1.0 for e in every)),
        },
        "rows": dict(
            zip(
                ("search", "certify", "judge"),
                map(len, dealt_rows(len(found.ready.outcomes), 0)),
                strict=True,
            )
        ),
        "baselines": baselines(case, found, level, resplits),
        "seconds": round(time.time() - start, 1),
    }
    print(json.dumps({k: v for k, v in entry.items() if k != "baselines"}), flush=True)
    return entry


def oracle(found: Tables, level: float) -> float:
    """With hindsight: the cheapest choice of a model for each request that keeps the level.

    Of each request the model with the least cost - price x score; the price is the least at which
    the level holds (Lagrange).
    """
    layout = list(found.looked)[-1]
    score, cost = found.ready.outcomes.score, found.looked[layout].bare[:, 1:]
    floor, rows = (1.0 - level) * score[:, -1].mean(), np.arange(len(score))
    low, high = 0.0, 1e3 * float(cost.max())
    for _ in range(60):
        price = 0.5 * (low + high)
        which = (cost - price * score).argmin(1)
        low, high = (low, price) if score[rows, which].mean() >= floor else (price, high)
    which = (cost - high * score).argmin(1)
    return float(cost[:, -1].mean() / cost[rows, which].mean())


def baselines(case: Case, found: Tables, level: float, resplits: int) -> dict[str, Any]:
    """Each model alone, and routers by the prompt with thresholds that prove nothing."""
    _, _, judge_rows = dealt_rows(len(found.ready.outcomes), 1)
    lookup = found.looked[list(found.looked)[-1]]
    cost, score = lookup.bare[judge_rows, 1:], found.ready.outcomes.score[judge_rows]
    told: dict[str, Any] = {
        model: {
            "saving": round(float(cost[:, -1].mean() / cost[:, place].mean()), 3),
            "kept_on_test": round(float(score[:, place].mean() / score[:, -1].mean()), 4),
        }
        for place, model in enumerate(case.tiers)
    }
    told["cascade by mean confidence"] = None  # no table has log-probabilities
    for name, rows in found.routers.items():
        by_level, by_share = [], []
        for seed in range(1, resplits + 1):
            search_rows, certify_rows, judge = dealt_rows(len(found.ready.outcomes), seed)
            known, rest = rows.take(np.concatenate([search_rows, certify_rows])), rows.take(judge)
            by_level.append(rest.at(level_threshold(known, level), level))
            by_share.append(rest.at(share_threshold(known), level))
        for recipe, each in (("level on calibration", by_level), ("half to the full", by_share)):
            told[f"{name}, {recipe}"] = each[0] | {
                "resplits_broken": sum(x["broken"] for x in each),
                "saving_p50": round(float(np.median([x["saving"] for x in each])), 3),
            }
    return told


def main() -> None:
    """Run the cases, and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--resplits", type=int, default=100)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    for case in CASES:
        if options.only and case.table not in options.only:
            continue
        found = tables_of(case, options.data)
        for level in LEVELS:
            entry = told_of(case, found, level, options.resplits)
            entry |= {"estimates": found.fitted, "commit": records.commit()}
            record = records.read(options.record)
            others = [
                each
                for each in record.get("tables", [])
                if (each["table"], each["tiers"], each["level"])
                != (entry["table"], entry["tiers"], entry["level"])
            ]
            records.write(options.record, {**record, "tables": [*others, entry]})


if __name__ == "__main__":
    main()
