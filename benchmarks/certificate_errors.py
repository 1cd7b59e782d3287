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

import certificate_power
import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.certificate import Certificate, certify
from adaptive.certifying import row_seed
from adaptive.config.steps import SearchConfig
from adaptive.costs import CostTable
from adaptive.policy import Lookup, excess
from adaptive.recording import concatenate
from adaptive.risk import betting, binomial, by_group, simulated_power, worst
from adaptive.risk.tables import drop_losses
from adaptive.search import front, search
from adaptive.types import OutcomeTable, Policy, Target

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from tiny_population import CONDITIONS, COSTS, FULL, Population, answering

DELTA = 0.05
DRAWS = 2_000
SPLITS = 200  # of the real pool
SEARCH, CERTIFY = 5_000, 5_000  # rows of each; many more are left to judge on
LEVEL = 0.01  # of the grouped drop
METRICS = ("agreement", "accuracy_drop", "accuracy")
PEOPLE = Population()


def everything(bundle: Bundle, spare: OutcomeTable, config: SearchConfig) -> list[dict[str, Any]]:
    """All counts.

    Args:
        bundle: with outcomes of the rows it was searched and certified on.
        spare: outcomes of more rows of the same kind that no step of its build has used.
    """
    assert bundle.costs is not None
    tables = [bundle.outcomes["search"], bundle.outcomes["certify"], spare]
    routed = bundle.router is not None
    return [
        *p_values(DRAWS),
        *fronts(DRAWS),
        *procedures(DRAWS),
        splits(concatenate(tables), bundle.costs, bundle.targets[0], config, routed=routed),
    ]


def line(what: str, draws: int, wrong: int, **more: Any) -> dict[str, Any]:
    """One count, with the most that chance leaves room for."""
    allowed = int(draws * DELTA + 3.0 * np.sqrt(draws * DELTA * (1.0 - DELTA)))
    return {"what": what, "draws": draws, "wrong": wrong, "delta": DELTA, "allowed": allowed} | more


def p_values(draws: int) -> Iterator[dict[str, Any]]:
    """Each test alone, on losses whose mean is the level."""
    for count in certificate_power.errors(0, draws):
        yield line(f"accuracy_drop: p-value by {count['what']}", draws, count["wrong"])
    for metric, losing, rows in (("agreement", 0.01, 1_000), ("accuracy", 0.1, 1_000)):
        share = simulated_power(
            partial(binomial, level=losing),
            [0.0, 1.0],
            rows,
            weights=[1.0 - losing, losing],
            delta=DELTA,
            draws=draws,
        )
        yield line(f"{metric}: p-value by binomial, {rows} rows", draws, round(share * draws))
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


def fronts(draws: int, rows: int = 500) -> Iterator[dict[str, Any]]:
    """Fronts with policies within, at and beyond the level: is any at or beyond certified?"""
    ordered = [FULL, *map(answering, (0.05, 0.3, 0.4, 0.401, 0.42, 0.5))]
    for metric, test in [
        *((m, "betting") for m in METRICS),
        ("accuracy_drop", "hoeffding_bentkus"),
    ]:
        target = PEOPLE.target(metric, 0.4, 1.0 - DELTA)
        wrong = 0
        for draw in range(draws):
            table = PEOPLE.draw(rows, np.random.default_rng([1, draw]))
            found = tested(ordered, table, target, draw, test=test)
            wrong += any(PEOPLE.excess(policy, target) > -1e-9 for policy in found.policies)
        name = found.claims[0].test.replace("_", " and ")
        yield line(f"{metric}: a front across the level, {name}, {rows} rows", draws, wrong)


def procedures(draws: int, seen: int = 200, unseen: int = 400) -> Iterator[dict[str, Any]]:
    """Search on some texts, certification on others: is any certified policy beyond the level?"""
    for metric in METRICS:
        target = PEOPLE.target(metric, 0.5, 1.0 - DELTA)
        wrong = tempting = 0
        for draw in range(draws):
            random = np.random.default_rng([2, draw])
            ordered = searched(PEOPLE.draw(seen, random), COSTS, target, 0.0, 1, routed=False)
            found = tested(ordered, PEOPLE.draw(unseen, random), target, draw)
            tempting += any(PEOPLE.excess(policy, target) > 0.0 for policy in ordered)
            wrong += any(PEOPLE.excess(policy, target) > 0.0 for policy in found.policies)
        what = f"{metric}: search on {seen} rows and certification on {unseen}"
        yield line(what, draws, wrong, fronts_beyond_the_level=tempting)


def splits(
    pool: OutcomeTable,
    costs: CostTable,
    target: Target,
    config: SearchConfig,
    *,
    routed: bool,
    draws: int = SPLITS,
    sizes: tuple[int, int] = (SEARCH, CERTIFY),
) -> dict[str, Any]:
    """The whole procedure on a real pool, split anew at each draw; judged on the split's rest."""
    world = Lookup.of(pool, costs.at(pool.tokens))
    served, all_certified, on_pool, cost = [], [], [], []
    verdicts: Counter[str] = Counter()
    for draw in range(draws):
        order = np.random.default_rng([3, draw]).permutation(len(pool))
        seen, unseen, rest = np.split(order, np.cumsum(sizes))
        ordered = searched(
            take(pool, seen), costs, target, config.margin, config.sweeps, routed=routed
        )
        found = tested(ordered, take(pool, unseen), target, draw, costs)
        results = {policy: world.evaluate(policy) for policy in found.policies}
        beyond = {
            policy: excess(target, result.prediction, pool) for policy, result in results.items()
        }
        served.append(beyond[found.policy][rest].mean())
        on_pool.append(beyond[found.policy].mean())
        all_certified.append(max(values[rest].mean() for values in beyond.values()))
        cost.append(results[ordered[0]].cost.mean() / results[found.policy].cost.mean())
        verdicts[found.verdict] += 1
    return line(
        f"{target.metric}: a real table of {len(pool)} rows, searched on {sizes[0]}, certified on "
        f"{sizes[1]}, judged on the other {len(pool) - sum(sizes)}",
        draws,
        int((np.array(served) > 0.0).sum()),
        wrong_on_the_pool=int((np.array(on_pool) > 0.0).sum()),
        wrong_of_any_certified=int((np.array(all_certified) > 0.0).sum()),
        verdicts=dict(verdicts),
        excess_on_the_rest=quantiles(served),
        cost_ratio=quantiles(cost),
    )


def searched(
    table: OutcomeTable,
    costs: CostTable,
    target: Target,
    margin: float,
    sweeps: int,
    *,
    routed: bool,
) -> list[Policy]:
    """The front that a build would put to the test."""
    lookup = Lookup.of(table, costs.at(table.tokens))
    found = search(lookup, target, margin=margin, sweeps=sweeps, routed=routed)
    return [each.policy for each in front(lookup, target, found, sweeps=sweeps)]


def tested(
    ordered: list[Policy],
    table: OutcomeTable,
    target: Target,
    draw: int,
    costs: CostTable = COSTS,
    test: Any = "betting",
) -> Certificate:
    """The certificate of a draw, its rows in an order of its own."""
    return certify(ordered, table, costs, target, row_seed(draw), CONDITIONS, test=test)


def take(table: OutcomeTable, rows: NDArray[np.int64]) -> OutcomeTable:
    """Some rows of a table."""
    names = ("predictions", "reliability", "risk", "labels", "tokens")
    return replace(table, **{name: getattr(table, name)[rows] for name in names})


def quantiles(values: list[float]) -> dict[str, float]:
    """Fifth, fiftieth and ninety-fifth hundredth."""
    return {f"{q:.0%}": float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)}
