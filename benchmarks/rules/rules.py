"""The published decision rules: what each compares with a threshold, and which policies it has.

A rule is an outcome table whose reliabilities (or risks) are the rule's own measure, and a family
of policies on it, from one knob. So it is searched, tested and judged as ours is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from tables import Build, Floats

from adaptive.policy import Lookup, single_stage
from adaptive.search import paths, shared_thresholds
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Stage
from adaptive.worth import as_good

LEVELS = 60
WEIGHTS = 40
VECTORS = 1500  # thresholds tried by Pareto Testing

Family = Callable[[Lookup], list[Policy]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule on one data set."""

    name: str
    paper: str
    table: OutcomeTable  # of the pool, with the rule's own measure
    family: Family


def rules_of(build: Build) -> list[Rule]:
    """All of them, in the order in which they are told."""
    table, stages, scores = build.table, build.table.stages, build.scores
    full, everything = (stages[-1].tier,), tuple(range(stages[-1].tier + 1))
    measures = {
        "entropy": (
            "DeeBERT, Xin et al. 2020; FastBERT's uncertainty, Liu et al. 2020",
            scores["certainty"],
        ),
        "maximum probability": (
            "Hendrycks and Gimpel 2017; BranchyNet's line",
            scores["probability"],
        ),
        "margin": ("Scheffer et al. 2001", scores["margin"]),
        "energy": ("Liu et al. 2020", scores["energy"]),
        "patience": ("PABEE, Zhou et al. 2020", scores["streak"]),
        "saturation": ("CALM, Schuster et al. 2022, section 3.2", scores["saturation"]),
        "learned to exit": ("BERxiT, Xin et al. 2021", scores["learned"]),
    }
    found = []
    for name, (paper, score) in measures.items():
        for where, path in (("full tier", full), ("cascade", everything)):
            found.append(Rule(f"{name}, {where}", paper, _with(table, score), _shared(path)))
    lasts = [max(k for k, s in enumerate(stages) if s.tier == t) for t in everything]
    agree = np.zeros_like(scores["tempered"])
    agree[:, lasts[1]] = table.predictions[:, lasts[0]] == table.predictions[:, lasts[1]]
    good = as_good(table.worth).astype(np.float64)
    chance = np.random.default_rng(0).random(agree.shape)
    found += [
        Rule(
            "two models, temperature-scaled",
            "Tabi, Wang et al. 2023",
            _with(table, scores["tempered"]),
            _tiers(lasts),
        ),
        Rule("two models, learned scorer", "FrugalGPT, Chen et al. 2023", table, _grid(lasts)),
        Rule(
            "agreement of models",
            "agreement-based cascading, Kolawole et al. 2024",
            _with(table, agree),
            _agreeing(lasts),
        ),
        Rule(
            "router alone, logistic",
            "RouteLLM's form, Ong et al. 2024",
            replace(table, risk=build.risks["logistic"]),
            _routed(lasts),
        ),
        Rule(
            "router alone, kNN",
            "tuned kNN",
            replace(table, risk=build.risks["knn"]),
            _routed(lasts),
        ),
        Rule(
            "Pareto Testing, full tier",
            "Laufer-Goldshtein et al. 2023",
            _with(table, scores["tempered"]),
            _vectors(full),
        ),
        Rule(
            "Pareto Testing, cascade",
            "Laufer-Goldshtein et al. 2023",
            _with(table, scores["tempered"]),
            _vectors(everything),
        ),
        Rule("one shared reliability", "ours without the joint search", table, _shared(everything)),
        Rule(
            "a tier alone",
            "chosen on the search rows",
            table,
            lambda _: [single_stage(stages, k) for k in lasts],
        ),
        Rule("random", "", _with(table, chance), _tiers(lasts)),
        Rule("oracle of exits", "knows the labels", _with(table, good), _oracle(everything)),
    ]
    return found


def _with(table: OutcomeTable, score: Floats) -> OutcomeTable:
    return replace(table, reliability=score.astype(np.float32))


def _levels(scores: NDArray[np.floating], count: int = LEVELS) -> list[float]:
    """Thresholds from letting all pass to letting none pass."""
    spread = np.concatenate(
        [np.linspace(0.0, 0.95, count // 2), 1 - np.geomspace(0.05, 5e-4, count // 2)]
    )
    values = np.unique(np.quantile(scores, spread)).tolist()
    return [*values, float(np.nextafter(np.float32(scores.max()), np.float32(np.inf)))]


def _shared(path: tuple[int, ...]) -> Family:
    def family(lookup: Lookup) -> list[Policy]:
        stages = lookup.table.stages
        on = [k for k, s in enumerate(stages) if s.tier in path]
        first = _levels(lookup.table.reliability[:, on[0]], 20)
        values = sorted({*first, *_levels(lookup.table.reliability[:, on])})
        return [shared_thresholds(stages, path, v) for v in values]

    return family


def _only(stages: tuple[Stage, ...], levels: dict[int, float]) -> Policy:
    """Thresholds at these stages, all other exits off."""
    path = tuple(sorted({stages[k].tier for k in levels}))
    return Policy(path, tuple(levels.get(k, NEVER) for k in range(len(stages))))


def _tiers(lasts: list[int]) -> Family:
    """Whole tiers in turn, one threshold on all."""

    def family(lookup: Lookup) -> list[Policy]:
        stages, found = lookup.table.stages, []
        for path in paths(range(len(lasts))):
            on = [lasts[t] for t in path]
            for v in _levels(lookup.table.reliability[:, on], 30):
                found.append(_only(stages, dict.fromkeys(on, v)))
        return list(dict.fromkeys(found))

    return family


def _grid(lasts: list[int]) -> Family:
    """Whole tiers in turn, a threshold each."""

    def family(lookup: Lookup) -> list[Policy]:
        stages, scores, found = lookup.table.stages, lookup.table.reliability, []
        for path in paths(range(len(lasts))):
            *early, last = [lasts[t] for t in path]
            for levels in product(*(_levels(scores[:, k], 16) for k in early)):
                found.append(_only(stages, {**dict(zip(early, levels, strict=True)), last: 0.0}))
        return found

    return family


def _agreeing(lasts: list[int]) -> Family:
    def family(lookup: Lookup) -> list[Policy]:
        stages = lookup.table.stages
        both = _only(stages, {lasts[1]: 0.5, lasts[2]: 0.0})
        return [both, single_stage(stages, lasts[0]), single_stage(stages, lasts[2])]

    return family


def _routed(lasts: list[int]) -> Family:
    """The tier with the least cost and weighted risk answers; nothing exits, nothing escalates."""

    def family(lookup: Lookup) -> list[Policy]:
        stages, found = lookup.table.stages, []
        entry = tuple(float(lookup.run[:, k].mean()) for k in lasts)
        for path in paths(range(len(lasts))):
            if len(path) < 2:
                continue
            base = _only(stages, {lasts[t]: ALWAYS for t in path})
            for weight in (max(entry) * np.logspace(-1.0, 3.0, WEIGHTS)).tolist():
                found.append(replace(base, risk_weight=weight, entry_cost=entry))
        return found + [single_stage(stages, k) for k in lasts]

    return family


def _vectors(path: tuple[int, ...]) -> Family:
    """Threshold vectors drawn at random, of which those stay that no other beats in both aims."""

    def family(lookup: Lookup) -> list[Policy]:
        table, draw = lookup.table, np.random.default_rng(0)
        on = [k for k, s in enumerate(table.stages) if s.tier in path]
        tried = []
        for _ in range(VECTORS):
            shared = draw.random()
            shares = np.clip(shared + draw.normal(0.0, 0.15, len(on)), 0.0, 1.0)
            levels = {
                k: float(np.quantile(table.reliability[:, k], q))
                for k, q in zip(on, shares, strict=True)
            }
            policy = _only(table.stages, levels)
            did = lookup.evaluate(policy)
            tried.append((float(did.cost.mean()), -float(did.score.mean()), policy))
        kept, best = [], np.inf
        for _cost, loss, policy in sorted(tried, key=lambda each: each[:2]):
            if loss < best:
                kept.append(policy)
                best = loss
        return [*kept, *_shared(path)(lookup)[-1:]]

    return family


def _oracle(path: tuple[int, ...]) -> Family:
    return lambda lookup: [shared_thresholds(lookup.table.stages, path, 0.5)]
