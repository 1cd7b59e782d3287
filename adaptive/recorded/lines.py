"""Which policies of recorded models are certified, and which of them is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive.policy.fronts import HOPE, front
from adaptive.policy.lookup import Lookup, is_bare, single_stage, useful_tiers
from adaptive.policy.search import Found, Judge, search, shared_thresholds
from adaptive.policy.targets import seeks_quality, several
from adaptive.recorded.judging import Judges
from adaptive.recorded.layouts import Layout, table_of
from adaptive.recorded.outcomes import Outcomes
from adaptive.recorded.preparing import Prepared
from adaptive.types import Groups, OutcomeTable, Policy, Stage, Targets

MARGIN = 1.0  # standard errors to spare where policies are searched
SWEEPS = 3
NEAR = 0.002  # share of its cost by which a policy does no more than a model alone
SIMPLE = 0.02  # share by which a model alone may cost more than a policy and be served
GROUP = "group"  # the column of outcomes for each value of which promises can be made


def best_layout(
    prepared: Prepared, judges: Judges, tried: Sequence[Layout], targets: Targets
) -> tuple[Layout, Lookup, list[Found]]:
    """The layout with the best policy on the search rows, its look-up, and what was found."""
    found = []
    for layout in tried:
        table = table_for(layout, prepared, judges)
        lookup = Lookup.of(table, prepared.costs(layout).of(table))
        found.append((layout, lookup, searched(lookup, targets)))
    return min(found, key=lambda each: each[2][0].rank)


def searched(lookup: Lookup, targets: Targets) -> list[Found]:
    """Policies that keep the targets on the search rows, best first."""
    return search(lookup, targets, margin=MARGIN, sweeps=SWEEPS, routed=True)


def line_of(lookup: Lookup, ladder: Sequence[Found], targets: Targets, rows: int) -> list[Found]:
    """The policies to certify, safe to cheap, with cheaper models alone at their end.

    That one of them replaces the full model is the most wanted proof, and what stands at the end of
    a sequence of tests costs those before it nothing. Policies of the line that do no more than a
    model alone give way to it.

    Args:
        rows: that will be certified on.
    """
    if seeks_quality(several(targets)):
        return front(lookup, targets, ladder, sweeps=SWEEPS, rows=rows)
    hopeful, judge = (Judge(lookup, targets, margin) for margin in (-HOPE, 0.0))
    *tiers, full = useful_tiers(lookup.table)
    mixed = [f for f in ladder if not is_bare(f.policy)]
    if not mixed and tiers:  # a model alone is best, and may still fail where less of it passes
        mixed = [judge(shared_thresholds(judge.stages, (tiers[0], full), 0.5))]
    line = front(lookup, targets, mixed or ladder, sweeps=SWEEPS, rows=rows)
    alone = [judge(single_stage(judge.stages, first_of(judge.stages, tier))) for tier in tiers]
    alone = [f for f in alone if hopeful(f.policy).excess <= 0.0 and f.cost < line[0].cost]
    for each in sorted(alone, key=lambda f: -f.cost):
        if each.policy in [f.policy for f in line]:
            continue
        kept = [f for f in line if f.cost > (1.0 + NEAR) * each.cost]
        if len(kept) == len(line) or all(not is_bare(f.policy) for f in line[len(kept) :]):
            line = [*kept, each]
    return line


def served_of(policies: Sequence[Policy], costs: Sequence[float]) -> Policy:
    """Of certified policies the cheapest; a model alone, if it costs hardly more."""
    least = min(costs)
    near = [
        (cost, policy)
        for policy, cost in zip(policies, costs, strict=True)
        if is_bare(policy) and cost <= (1.0 + SIMPLE) * least
    ]
    return min(near, key=lambda each: each[0])[1] if near else policies[costs.index(least)]


def first_of(stages: Sequence[Stage], tier: int) -> int:
    """The first stage of a tier: the model that its chain begins with."""
    return min(k for k, stage in enumerate(stages) if stage.tier == tier)


def table_for(layout: Layout, prepared: Prepared, judges: Judges) -> OutcomeTable:
    """The outcome table of prepared requests, with the groups that were recorded."""
    return table_of(
        layout,
        prepared.outcomes,
        judges,
        alike=prepared.alike,
        costs=prepared.usage,
        groups=groups_of(prepared.outcomes),
    )


def groups_of(outcomes: Outcomes) -> dict[str, Groups]:
    """The recorded group as a column for each value of which promises can be made."""
    found = outcomes.requests.get(GROUP)
    if found is None or any(each is None for each in found):
        return {}
    names = tuple(sorted(set(found)))
    place = {name: index for index, name in enumerate(names)}
    return {GROUP: Groups(names, np.array([place[each] for each in found], dtype=np.int32))}
