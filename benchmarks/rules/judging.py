"""One deal of rows: some make and choose a rule's policies, others certify, others judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rules import Choice, Rule
from scipy.stats import t as student

from adaptive.policy.fronts import arranged
from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.policy.search import Score
from adaptive.policy.targets import excess, mean_excess
from adaptive.risk import drop_counts, paired
from adaptive.types import Evaluation, Policy, Target

Floats = NDArray[np.float64]
Rows = dict[str, NDArray[np.int64]]
LEVEL, DELTA = 0.01, 0.05
BUDGETS = np.linspace(0.02, 1.0, 50)  # shares of the full tier's cost
LONGEST = 25  # policies of a sequence that are tested
FIGURES = ("area", "cost_at_99", "cost_at_995", "accuracy_at_fifth", "certified_cost")


def deal(rows: int, sizes: dict[str, int], seed: int) -> Rows:
    """Rows to search, to certify and to judge on, as many as the build had.

    Where the build's test rows are not among them, three, four and three tenths.
    """
    order = np.random.default_rng(1000 + seed).permutation(rows)
    ends = np.cumsum([sizes["search"], sizes["certify"]])
    if "test" not in sizes:
        ends = np.array([rows * 3 // 10, rows * 7 // 10])
    names = ("search", "certify", "judge")
    return dict(zip(names, np.split(order, ends), strict=True))


def share_of(dealt: Sequence[Rows]) -> float:
    """Rows that judge over rows that choose, as `interval` asks for it."""
    return len(dealt[0]["judge"]) / (len(dealt[0]["search"]) + len(dealt[0]["certify"]))


@dataclass(frozen=True, slots=True)
class Seen:
    """A rule's policies on the rows searched on; the full tier alone is the first."""

    search: Lookup
    policies: list[Policy]
    cost: Floats  # [p] mean
    right: Floats  # [p] mean score
    lost: Floats  # [p] share of the full tier's score
    error: Floats  # [p] its standard error
    base: float  # the full tier's mean score
    scores: dict[Policy, Score]  # as a front reads them


def seen_by(rule: Rule, search: Lookup, target: Target) -> Seen:
    """Every policy of the family, evaluated once."""
    stages = search.table.stages
    full = tier_alone(stages, stages[-1].tier)
    policies = list(dict.fromkeys([full, *rule.family(search)]))
    did = [rule.decide(search, each) for each in policies]
    reference = search.table.worth.reference.astype(np.float64)
    base = float(reference.mean())
    right = np.array([each.score.mean() for each in did])
    spread = np.array([(reference - each.score).std() for each in did])
    scores = {
        policy: Score(float(each.cost.mean()), *mean_excess((target,), each, search.table), 0.0)
        for policy, each in zip(policies, did, strict=True)
    }
    return Seen(
        search,
        policies,
        np.array([each.cost.mean() for each in did]),
        right,
        1.0 - right / base,
        spread / np.sqrt(len(reference)) / base,
        base,
        scores,
    )


def judged(
    rule: Rule, rows: Rows, target: Target, own: list[Policy] | None = None
) -> dict[str, float]:
    """A rule's figures in one deal.

    Args:
        target: to certify.
        own: the sequence of tests; None: the rule's policies, as any front of ours is put in order.
    """
    seen = seen_by(rule, rule.lookup.take(rows["search"]), target)
    judge = rule.lookup.take(rows["judge"])
    held = float(judge.table.worth.reference.mean(dtype=np.float64))

    @cache
    def judged_by(policy: Policy) -> tuple[float, float]:
        did = rule.decide(judge, policy)
        return float(did.cost.mean()), float(did.score.mean()) / held

    found: dict[str, float] = {}
    for name, level in (("99", 0.01), ("995", 0.005)):
        place = chosen(rule.choose, level, seen)
        found[f"cost_at_{name}"], found[f"kept_at_{name}"] = judged_by(seen.policies[place])
    reached = []
    for share in [*BUDGETS, 0.2]:
        inside = np.flatnonzero(seen.cost <= share * seen.cost[0])
        best = inside[seen.right[inside].argmax()] if len(inside) else -1
        reached.append(judged_by(seen.policies[best])[1] if best >= 0 else _commonest(judge) / held)
    found["area"], found["accuracy_at_fifth"] = float(np.mean(reached[:-1])), reached[-1]
    if own is None:
        line = arranged(seen.search, target, seen.policies[1:], dict(seen.scores))
        own = [each.policy for each in line]
    certified = certify(rule, own, rule.lookup.take(rows["certify"]), target, seen.base)
    full = seen.policies[0]
    found["certified_cost"], found["kept_certified"] = judged_by(certified or full)
    found["certifies"] = float(certified is not None and certified != full)
    return found


def chosen(choose: Choice, level: float, seen: Seen) -> int:
    """Which of the policies serves at a level."""
    return choose(level, seen.base, seen.lost, seen.error, seen.cost, len(seen.search.table))


def _commonest(judge: Lookup) -> float:
    """Score of the answer that is always the same; nothing where answers are no classes."""
    table = judge.table
    return 0.0 if table.classes is None else float(np.bincount(table.labels).max() / len(table))


@cache
def p_value(worse: int, better: int, both: int, rows: int, level: float, accuracy: float) -> float:
    """Of H0: more than the level of the full tier's accuracy is lost."""
    return float(paired(worse, better, both, rows, level, accuracy=accuracy, delta=DELTA))


def tested(did: Evaluation, policy: Policy, rows: Lookup, target: Target, accuracy: float) -> float:
    """The p-value of a policy, by the exact test, or, of marks, by the one of `score_drop`."""
    if rows.table.worth.exact:
        counts = [int(each.item()) for each in drop_counts(excess(target, did, rows.table)[None])]
        return p_value(*counts, len(rows.table), target.level, accuracy)
    from adaptive.certificate.claims import try_target
    from adaptive.certifying.recertify import (
        row_seed,  # these bring torch, which nothing else here needs
    )

    trial = try_target(
        target, [policy], [did], np.array([np.inf]), rows.table, row_seed(0), "paired", accuracy
    )
    return float(trial.p_values[0, 0])


def certify(
    rule: Rule, line: Sequence[Policy], rows: Lookup, target: Target, accuracy: float
) -> Policy | None:
    """The cheapest policy of a fixed sequence before the first that fails; None: the first does."""
    places = np.unique(np.linspace(0, len(line) - 1, min(LONGEST, len(line))).round().astype(int))
    passed: list[tuple[float, Policy]] = []
    for place in places.tolist():
        did = rule.decide(rows, line[place])
        if tested(did, line[place], rows, target, accuracy) > DELTA:
            break
        passed.append((float(did.cost.mean()), line[place]))
    return min(passed, key=lambda each: each[0])[1] if passed else None


def interval(values: Sequence[float], judged_share: float = 0.0) -> dict[str, float]:
    """Mean over seeds, and its 95 % interval by Student's t.

    Args:
        judged_share: rows that judge over rows that choose; 0: deals as if independent. They share
            one pool, which Nadeau and Bengio (2003) allow for by adding this share to 1 / seeds.
    """
    found, count = np.asarray(values, dtype=np.float64), len(values)
    scale = float(found.std(ddof=1) * np.sqrt(1.0 / count + judged_share))
    reach, mean = float(student.ppf(0.975, count - 1)) * scale, float(found.mean())
    return {"mean": _short(mean), "low": _short(mean - reach), "high": _short(mean + reach)}


def against(
    found: list[dict[str, float]], mine: list[dict[str, float]], judged_share: float
) -> dict[str, Any]:
    """The rule less ours in the same deals: mean, interval, and the p-value of a paired t-test."""
    told: dict[str, Any] = {}
    for key in (*FIGURES, "kept_at_99", "kept_at_995"):
        more = np.array([a[key] - b[key] for a, b in zip(found, mine, strict=True)])
        scale = float(more.std(ddof=1) * np.sqrt(1.0 / len(more) + judged_share))
        p = 2.0 * student.sf(abs(more.mean()) / scale, len(more) - 1) if scale > 0.0 else 1.0
        told[key] = interval(more.tolist(), judged_share) | {"p": _short(float(p))}
    return told


def _short(value: float) -> float:
    return float(f"{value:.5g}")
