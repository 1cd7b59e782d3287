"""How often a certificate is wrong: counted on texts of known risk, and on a real table.

On made-up texts the true risk of every policy is known, and the worst case can be made: policies
whose risk is the level itself. On real ones it is not. There, a large pool of texts that no
weight, threshold or router has seen is split at random, again and again, into rows to search on,
rows to certify on and a rest, and a certificate counts as wrong where the policy it serves breaks
the level on the rest. What that means: the rest is a sample too, so a policy that keeps the level
by little breaks it there now and then, and more often the smaller the rest is; the judge errs on
the strict side. And it is an average over splits of one pool. Its texts need not be independent
(SST-2's are phrases of shared sentences): rows drawn from it at random are exchangeable anyway.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import certificate_power
import numpy as np
from certificate_rows import Pool
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.certificate.certify import certify
from adaptive.certificate.claims import Trial
from adaptive.certificate.promises import Certificate
from adaptive.certifying.recertify import row_seed
from adaptive.config.steps import SearchConfig
from adaptive.policy.costs import CostTable
from adaptive.policy.fronts import front
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import search
from adaptive.policy.targets import mean_excess, seeks_quality
from adaptive.risk import betting, binomial, by_group, simulated_power, worst
from adaptive.risk.tables import drop_losses
from adaptive.types import OutcomeTable, Policy, Target

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from tiny_population import CHEAP, CONDITIONS, COSTS, FULL, Mixed, Population, answering

DELTA = 0.05
DRAWS = 2_000
SPLITS = 200  # of the real pool
SEARCH, CERTIFY = 5_000, 5_000  # rows of each; many more are left to judge on
LEVEL = 0.01  # of the grouped drop
METRICS = ("agreement", "accuracy_drop", "accuracy", "milliseconds", "text_cost")
PEOPLE = Population()
# the second kind's texts are lost twice as often, the third kind is rare
KINDS = Mixed((Population(0.1, 0.02), Population(0.2, 0.04), Population(0.1, 0.1)), (0.5, 0.4, 0.1))
People = Population | Mixed


def everything(bundle: Bundle, pool: Pool, config: SearchConfig) -> list[dict[str, Any]]:
    """All counts; the pool is of rows that no weight, threshold or router has seen."""
    assert bundle.costs is not None
    routed = bundle.router is not None
    real = splits(pool, bundle.costs, bundle.targets, config, routed=routed)
    return [*known_risks(DRAWS), real]


def known_risks(draws: int) -> list[dict[str, Any]]:
    """The counts on made-up texts."""
    # how many rows would be needed is not asked here, and takes most of the time
    with patch.object(Trial, "rows_needed", lambda *given: None):
        return [*p_values(draws), *fronts(draws), *procedures(draws)]


def line(what: str, draws: int, wrong: int, **more: Any) -> dict[str, Any]:
    """One count, with the most that chance leaves room for."""
    allowed = int(draws * DELTA + 3.0 * np.sqrt(draws * DELTA * (1.0 - DELTA)))
    return {"what": what, "draws": draws, "wrong": wrong, "delta": DELTA, "allowed": allowed} | more


def p_values(draws: int) -> Iterator[dict[str, Any]]:
    """Each test alone, on losses whose mean is the level."""
    for count in certificate_power.errors(0, draws):
        yield line(f"accuracy_drop: p-value by {count['what']}", draws, count["wrong"])
    for metric, losing, rows in (
        ("agreement", 0.01, 1_000),
        ("accuracy", 0.1, 1_000),
        ("text_cost", 0.05, 1_000),
    ):
        share = simulated_power(
            partial(binomial, level=losing),
            [0.0, 1.0],
            rows,
            weights=[1.0 - losing, losing],
            delta=DELTA,
            draws=draws,
        )
        yield line(f"{metric}: p-value by binomial, {rows} rows", draws, round(share * draws))
    for dear, rows in ((0.6, 1_000), (0.05, 1_000)):  # texts that cost 11, where others cost 1
        budget = 1.0 + 10.0 * dear
        share = simulated_power(
            partial(betting, level=0.0, low=-1.0, high=11.0 / budget - 1.0, seed=row_seed(0)),
            [11.0 / budget - 1.0, 1.0 / budget - 1.0],
            rows,
            weights=[dear, 1.0 - dear],
            delta=DELTA,
            draws=draws,
        )
        what = f"milliseconds: p-value by betting, {rows} rows, {dear:.0%} of them dear"
        yield line(what, draws, round(share * draws))
    yield line("accuracy_drop of three groups, one at the level", draws, grouped(draws))


def grouped(draws: int) -> int:
    """Wrong rejections of "some group breaks the level" where the smallest group is at it."""
    groups = np.repeat([0, 1, 2], [500, 1_000, 1_000])
    test = partial(betting, level=0.0, low=-1.0, high=1.0 - LEVEL, seed=row_seed(0), delta=DELTA)
    wrong = 0
    for draw in range(draws):
        random = np.random.default_rng([0, draw])
        losses = np.empty(len(groups))
        for group, drop in enumerate((LEVEL, 0.0, 0.0)):
            values, shares = drop_losses(0.95 * drop + 0.002, 0.002, LEVEL, 0.95)
            inside = groups == group
            losses[inside] = random.choice(values, inside.sum(), p=shares)
        wrong += bool(worst(by_group(test, losses, groups, 3)) <= DELTA)
    return wrong


def cases() -> Iterator[tuple[str, People, tuple[Target, ...]]]:
    """Promises about people whose risks are known, kept by a cheap stage that answers 40 %."""
    for metric in METRICS:
        yield metric, PEOPLE, (PEOPLE.target(metric, 0.4, 1.0 - DELTA),)
    drop, unlike = 0.04 / 0.9, 0.08
    kinds = Target("accuracy_drop", drop, 1.0 - DELTA, "kind")
    yield "accuracy_drop in each of three groups", KINDS, (kinds,)
    both = Target("agreement", unlike, 1.0 - DELTA, "kind"), Target("accuracy", 0.85, 1.0 - DELTA)
    yield "agreement in each of three groups, and accuracy", KINDS, both


def beyond(people: People, policy: Policy, targets: tuple[Target, ...]) -> float:
    """By how much the policy truly breaks the worst of the targets; at most 0 where it does not."""
    if isinstance(people, Mixed):
        return people.excess(policy, targets)
    return max(people.excess(policy, target) for target in targets)


def limit(people: People, targets: tuple[Target, ...]) -> float:
    """The share of texts that the cheap stage may just answer, or must where costs are promised."""
    low, high, must = 0.0, 1.0, seeks_quality(targets)
    for _ in range(60):
        middle = (low + high) / 2.0
        more = (beyond(people, answering(middle), targets) < 0.0) != must
        low, high = (middle, high) if more else (low, middle)
    return high


def across(share: float, targets: tuple[Target, ...]) -> list[Policy]:
    """A front with policies within, at and beyond the level, which is at such a share."""
    parts = (0.1, 0.75, 1.0, 1.01, 1.1)
    if seeks_quality(targets):
        return [CHEAP, *(answering(1.0 - (1.0 - share) * part) for part in parts)]
    return [FULL, *(answering(share * part) for part in parts)]


def fronts(draws: int, rows: int = 500) -> Iterator[dict[str, Any]]:
    """Fronts with policies within, at and beyond the level: is any at or beyond certified?"""
    tried = [(case, "paired") for case in cases()]
    others = ("betting", "hoeffding_bentkus")
    tried += [(case, test) for test in others for case in cases() if case[0] == "accuracy_drop"]
    for (what, people, targets), test in tried:
        ordered = across(limit(people, targets), targets)
        wrong = 0
        for draw in range(draws):
            table = people.draw(rows, np.random.default_rng([1, draw]))
            found = tested(ordered, table, targets, draw, test=test)
            wrong += any(beyond(people, policy, targets) > -1e-9 for policy in found.policies)
        name = " and ".join(sorted({claim.test for claim in found.claims}))
        yield line(f"{what}: a front across the level, {name}, {rows} rows", draws, wrong)


def procedures(draws: int, seen: int = 200, unseen: int = 400) -> Iterator[dict[str, Any]]:
    """Search on some texts, certification on others: is any certified policy beyond the level?"""
    for what, people, targets in cases():
        wrong = tempting = lost = 0
        for draw in range(draws):
            random = np.random.default_rng([2, draw])
            ordered = searched(people.draw(seen, random), COSTS, targets, 0.0, 1, routed=False)
            found = tested(ordered, people.draw(unseen, random), targets, draw)
            tempting += any(beyond(people, policy, targets) > 0.0 for policy in ordered)
            wrong += any(beyond(people, policy, targets) > 0.0 for policy in found.policies)
            lost += loses_more(people, found)
        told = f"{what}: search on {seen} rows and certification on {unseen}"
        yield line(told, draws, wrong, fronts_beyond_the_level=tempting)
        if seeks_quality(targets):
            yield line(f"{told}, the bound on the loss of what is served", draws, lost)


def loses_more(people: People, found: Certificate) -> bool:
    """Whether the policy served truly loses more than the certificate says."""
    if found.quality is None or isinstance(people, Mixed):
        return False
    return people.loss(found.policy, found.quality.metric) > found.quality.level


def splits(
    pool: Pool,
    costs: CostTable,
    targets: tuple[Target, ...],
    config: SearchConfig,
    *,
    routed: bool,
    draws: int = SPLITS,
    sizes: tuple[int, int] = (SEARCH, CERTIFY),
) -> dict[str, Any]:
    """The whole procedure on a real pool, split anew at each draw; judged on the split's rest."""
    table = pool.table
    world = Lookup.of(table, costs.at(table.tokens))
    served, any_served, on_pool, saved = [], [], [], []
    verdicts: Counter[str] = Counter()
    for draw in range(draws):
        order = np.random.default_rng([3, draw]).permutation(len(table))
        seen, unseen, rest = np.split(order, np.cumsum(sizes))
        ordered = searched(
            table.take(seen),
            costs,
            targets,
            config.margin,
            config.sweeps,
            routed=routed,
            drop=pool.drop(seen) if config.losses == "expected" else None,
        )
        found = tested(ordered, table.take(unseen), targets, draw, costs)
        results = {policy: world.evaluate(policy) for policy in found.policies}
        judge = table.take(rest)
        excesses = {
            policy: mean_excess(targets, result.take(rest), judge)[0].max()
            for policy, result in results.items()
        }
        served.append(excesses[found.policy])
        any_served.append(max(excesses.values()))
        on_pool.append(mean_excess(targets, results[found.policy], table)[0].max())
        saved.append(results[ordered[0]].cost.mean() / results[found.policy].cost.mean())
        verdicts[found.verdict] += 1
    names = " and ".join(target.metric for target in targets)
    return line(
        f"{names}: a real table of {len(table)} rows, searched on {sizes[0]}, certified on "
        f"{sizes[1]}, judged on the other {len(table) - sum(sizes)}",
        draws,
        int((np.array(served) > 0.0).sum()),
        wrong_on_the_pool=int((np.array(on_pool) > 0.0).sum()),
        wrong_of_any_certified=int((np.array(any_served) > 0.0).sum()),
        verdicts=dict(verdicts),
        excess_on_the_rest=quantiles(served),
        cost_ratio=quantiles(saved),
    )


def searched(
    table: OutcomeTable,
    costs: CostTable,
    targets: tuple[Target, ...],
    margin: float,
    sweeps: int,
    *,
    routed: bool,
    drop: NDArray[np.float64] | None = None,
) -> list[Policy]:
    """The front that a build would put to the test."""
    lookup = Lookup.of(table, costs.at(table.tokens), drop)
    found = search(lookup, targets, margin=margin, sweeps=sweeps, routed=routed)
    return [each.policy for each in front(lookup, targets, found, sweeps=sweeps)]


def tested(
    ordered: list[Policy],
    table: OutcomeTable,
    targets: tuple[Target, ...],
    draw: int,
    costs: CostTable = COSTS,
    test: Any = "paired",
) -> Certificate:
    """The certificate of a draw, its rows in an order of its own."""
    longest = max(CONDITIONS.max_length, int(table.tokens.max()))
    conditions = replace(CONDITIONS, max_length=longest)
    return certify(ordered, table, costs, targets, row_seed(draw), conditions, test=test)


def quantiles(values: list[float]) -> dict[str, float]:
    """Fifth, fiftieth and ninety-fifth hundredth."""
    return {f"{q:.0%}": float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)}
