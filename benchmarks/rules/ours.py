"""Our policies as a rule among the others, and what is left of them without a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from judging import LEVEL
from rules import MARGIN, Rule
from tables import Build, without

from adaptive.policy.fronts import MARGIN as LINE_MARGIN
from adaptive.policy.fronts import front
from adaptive.policy.lines import moving, shifting
from adaptive.policy.lookup import Lookup, is_bare, single_stage, tier_alone
from adaptive.policy.search import Found, search, shared_thresholds
from adaptive.types import Policy, StageCosts, Target

SWEEPS = 4
LEVELS = (0.0025, 0.005, 0.02, 0.05)  # further levels that are searched for
STEPS = 120  # policies of a whole line
MOVES = 60  # of a policy whose thresholds are moved


def rule_of(name: str, lookup: Lookup, paper: str = "this project") -> Rule:
    """Ours, on a look-up; `with_line` gives it its policies in each deal."""
    return Rule(name, paper, lookup, lambda _: [])


def with_line(rule: Rule, made: Sequence[Policy]) -> Rule:
    """The rule with the policies of a front, the rest of its line, and each stage alone."""

    def family(search_: Lookup) -> list[Policy]:
        stages = search_.table.stages
        alone = [single_stage(stages, k) for k in range(len(stages))]
        mixed = [policy for policy in made if not is_bare(policy)]
        return [*alone, *made, *(shifting(search_, mixed[0], STEPS) if mixed else [])]

    return replace(rule, family=family)


def searched(search_: Lookup, levels: Sequence[float] = LEVELS) -> list[Policy]:
    """The search's own policies for several levels, and the first with all thresholds moved.

    Thresholds are free, and fit the luck of the rows: these policies lose more on other rows.
    """
    stages = search_.table.stages
    found = [single_stage(stages, k) for k in range(len(stages))]
    for level in (LEVEL, *levels):
        best = _searched(search_, Target("accuracy_drop", level), MARGIN)[0].policy
        found.append(best)
        if level == LEVEL:
            found += moving(search_, best, MOVES)
    return found


def one_level(search_: Lookup) -> list[Policy]:
    """The same for the level that is certified alone."""
    return searched(search_, ())


def line(search_: Lookup, target: Target) -> list[Policy]:
    """The front, as a build makes it."""
    found = _searched(search_, target, LINE_MARGIN)
    return [each.policy for each in front(search_, target, found, sweeps=SWEEPS)]


def lone(search_: Lookup, target: Target) -> list[Policy]:
    """The searched policy alone in the place of a front, behind the full tier."""
    stages = search_.table.stages
    best = _searched(search_, target, LINE_MARGIN)[0].policy
    return [tier_alone(stages, stages[-1].tier), best]


def one_threshold(search_: Lookup) -> list[Policy]:
    """One threshold for all exits: no joint search."""
    tiers = tuple(range(search_.table.stages[-1].tier + 1))
    values = np.unique(np.quantile(search_.table.reliability, np.linspace(0, 1, 120)))
    return [shared_thresholds(search_.table.stages, tiers, v) for v in values.tolist()]


def _searched(search_: Lookup, target: Target, margin: float) -> list[Found]:
    routes = bool(search_.table.risk.any())
    return search(search_, target, margin=margin, sweeps=SWEEPS, routed=routes)


def parts_of(build: Build, costs: StageCosts) -> dict[str, Lookup]:
    """The cascade whole, without a part, and with a router."""
    table, stages = build.table, build.table.stages
    tier = {t: {k for k, s in enumerate(stages) if s.tier == t} for t in range(stages[-1].tier + 1)}
    last = {max(own) for own in tier.values()}
    dropped = {
        "without depth-0 exits of mid and full": {
            k for k, s in enumerate(stages) if s.tier and not s.depth
        },
        "without tiny": tier[0],
        "without mid": tier[1],
        "without exits inside tiers": set(range(len(stages))) - last,
    }
    sure = replace(table, reliability=build.scores["tempered"].astype(np.float32))
    risk = build.risks["logistic"]
    return {
        "all": Lookup.of(table, costs),
        **{name: Lookup.of(*without(table, costs, gone)) for name, gone in dropped.items()},
        "maximum probability for reliability": Lookup.of(sure, costs),
        "with a logistic router": Lookup.of(replace(table, risk=risk), costs),
    }
