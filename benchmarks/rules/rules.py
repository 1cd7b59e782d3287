"""The published decision rules: what each compares with a threshold, and which policies it has.

A rule is a look-up whose reliabilities (or risks) are the rule's own measure, and a family of
policies on it, from one knob. So it is searched, tested and judged as ours is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from families import (
    Family,
    agreeing,
    cascade_routing,
    hindsight,
    lasts_of,
    priced,
    routed,
    shared,
    tiers_free,
    tiers_shared,
    vectors,
)
from numpy.typing import NDArray
from tables import Build

from adaptive.policy.lookup import Lookup, single_stage
from adaptive.policy.search import shared_thresholds
from adaptive.policy.worth import as_good
from adaptive.types import Evaluation, OutcomeTable, Policy, StageCosts

Floats = NDArray[np.float64]
Choice = Callable[[float, float, Floats, Floats, Floats, int], int]
MARGIN = 1.0  # standard errors to spare


def within_margin(
    level: float, base: float, lost: Floats, error: Floats, cost: Floats, rows: int
) -> int:
    """The cheapest policy that keeps the level with `MARGIN` standard errors to spare; 0: none.

    Args:
        level: share of the full tier's accuracy that may be lost.
        base: the full tier's accuracy.
        lost: share of it that each policy loses, [p].
        error: its standard error, [p].
        cost: mean, [p].
        rows: that all of these are told from.
    """
    kept = np.flatnonzero(lost + MARGIN * error <= level)
    return int(kept[cost[kept].argmin()]) if len(kept) else 0


def conformally(
    level: float, base: float, lost: Floats, error: Floats, cost: Floats, rows: int
) -> int:
    """Angelopoulos et al. (2024), conformal risk control, equation 4, for losses of at most 1.

    From the safe end on, the last policy before the first with (n R + 1) / (n + 1) above the level;
    that makes the risk one that only rises. The mean over calibration sets is controlled, not the
    loss that one of them leads to.
    """
    order = np.argsort(-cost, kind="stable")
    bound = (rows * lost[order] * base + 1.0) / (rows + 1.0)
    failed = np.append(np.flatnonzero(bound > level * base), len(order))[0]
    return int(order[failed - 1]) if failed else 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule on one data set."""

    name: str
    paper: str
    lookup: Lookup  # of the pool, with the rule's own measure
    family: Family
    decide: Callable[[Lookup, Policy], Evaluation] = Lookup.evaluate
    choose: Choice = within_margin


def rules_of(build: Build, costs: StageCosts) -> list[Rule]:
    """All of them, in the order in which they are told."""
    table, stages, scores = build.table, build.table.stages, build.scores
    full, everything = (stages[-1].tier,), tuple(range(stages[-1].tier + 1))

    def measured(score: Floats) -> Lookup:
        return Lookup.of(_with(table, score), costs)

    def with_risk(name: str) -> Lookup:
        return Lookup.of(replace(table, risk=build.risks[name]), costs)

    tempered, plain = measured(scores["tempered"]), Lookup.of(table, costs)
    measures = {
        "entropy": (
            "DeeBERT, Xin et al. 2020; FastBERT's uncertainty, Liu et al. 2020",
            "certainty",
        ),
        "maximum probability": ("Hendrycks and Gimpel 2017; as in BranchyNet", "probability"),
        "margin": ("Scheffer et al. 2001", "margin"),
        "energy": ("Liu et al. 2020; COSEE's signal, 2025", "energy"),
        "patience": ("PABEE, Zhou et al. 2020", "streak"),
        "saturation": ("CALM, Schuster et al. 2022, section 3.2", "saturation"),
        "learned to exit": ("BERxiT, Xin et al. 2021", "learned"),
    }
    found = []
    for name, (paper, score) in measures.items():
        seen = measured(scores[score])
        for where, path in (("full tier", full), ("cascade", everything)):
            found.append(Rule(f"{name}, {where}", paper, seen, shared(path)))
    lasts = lasts_of(stages)
    agree = np.zeros_like(scores["tempered"])
    agree[:, lasts[1]] = table.predictions[:, lasts[0]] == table.predictions[:, lasts[1]]
    voted = "agreement-based cascading, Kolawole et al. 2024"
    found += [
        Rule(
            "conformal risk control, cascade",
            "Angelopoulos et al. 2024; for exits Jazbec et al. 2024",
            tempered,
            shared(everything),
            choose=conformally,
        ),
        Rule(
            "two models, temperature-scaled",
            "Tabi, Wang et al. 2023",
            tempered,
            tiers_shared(everything),
        ),
        Rule(
            "two models, learned scorer",
            "FrugalGPT, Chen et al. 2023",
            plain,
            tiers_free(everything),
        ),
        Rule("agreement of models", voted, measured(agree), agreeing(0, 1)),
        Rule("agreement of all exits so far", voted, measured(scores["votes"]), shared(everything)),
        Rule(
            "cascade routing",
            "Dekoninck et al. 2025",
            with_risk("after"),
            priced,
            cascade_routing,
        ),
        Rule("Pareto Testing, full tier", _PARETO, tempered, vectors(full)),
        Rule("Pareto Testing, cascade", _PARETO, tempered, vectors(everything)),
    ]
    routers = {
        "logistic": ("RouteLLM's form, Ong et al. 2024; tuned", "logistic"),
        "matrix factorisation": ("RouteLLM, Ong et al. 2024", "matrix"),
        "tuned kNN": ("Li 2025", "knn"),
        "Hybrid LLM": ("Ding et al. 2024, r_trans", "hybrid"),
    }
    for name, (paper, risk) in routers.items():
        found.append(Rule(f"router alone, {name}", paper, with_risk(risk), routed(everything)))
    good = as_good(table.worth).astype(np.float64)
    chance = np.random.default_rng(0).random(agree.shape)
    ends = (everything[0], everything[-1])
    found += [
        Rule("one shared reliability", "ours without the joint search", plain, shared(everything)),
        *(
            Rule(f"{name} tier alone", "", plain, partial(_alone, stage=stage))
            for name, stage in zip(("tiny", "mid", "full"), lasts, strict=True)
        ),
        Rule("random, tiny or full", "", measured(chance), tiers_shared(ends)),
        Rule(
            "oracle of exits",
            "knows which answers are as good as the full tier's",
            measured(good),
            lambda lookup: [shared_thresholds(lookup.table.stages, everything, 0.5)],
        ),
        Rule("oracle", "knows which answers are right", plain, priced, hindsight),
    ]
    return found


_PARETO = "Laufer-Goldshtein et al. 2023"


def _alone(lookup: Lookup, stage: int) -> list[Policy]:
    return [single_stage(lookup.table.stages, stage)]


def _with(table: OutcomeTable, score: Floats) -> OutcomeTable:
    return replace(table, reliability=score.astype(np.float32))
