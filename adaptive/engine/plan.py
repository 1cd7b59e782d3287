"""From a policy to the hops that an engine runs, in order of execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from adaptive.bundle.contents import stages_of
from adaptive.policy.lookup import is_bare, last_exits
from adaptive.types import Policy


@dataclass(frozen=True, slots=True)
class Hop:
    """Segments of a tier and the exits along them, the last of which decides who goes on."""

    tier: int
    exits: tuple[int, ...]  # of the tier, ascending; all but the last are switched off
    stages: tuple[int, ...]  # their numbers in the cascade
    begins: bool  # it is the tier's first
    ends: bool  # behind it rows are done with the tier
    last: bool  # it answers whatever is left

    @property
    def stage(self) -> int:
        """That of the exit that decides."""
        return self.stages[-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a policy alone."""

    bare: bool  # one stage answers everything, so that nothing is estimated
    anchored: bool  # stages behind the first one are asked
    hops: tuple[Hop, ...]  # of all tiers that run
    entry: Mapping[int, int]  # tier -> the place in `hops` of its first


@lru_cache(maxsize=256)
def plan_of(depths: tuple[tuple[int, ...], ...], policy: Policy) -> Plan:
    """From one switched-on exit to the next; off the path, the first stage alone.

    Args:
        depths: of each tier's exits.
    """
    stages, bare = stages_of(depths), is_bare(policy)
    last = last_exits(policy, stages)
    final = last[policy.path[-1]]
    tiers = policy.path if bare else tuple(sorted({0, *policy.path}))
    hops: list[Hop] = []
    entry = {}
    for tier in tiers:
        entry[tier] = len(hops)
        first = next(k for k, stage in enumerate(stages) if stage.tier == tier)
        end = last.get(tier, first)
        passed: list[int] = []
        for stage in range(end if bare else first, end + 1):
            passed.append(stage)
            # a router decides behind the first stage, whether that may answer or not
            if stage == end or policy.on(stage) or (stage == 0 and policy.risk_weight is not None):
                exits = tuple(each - first for each in passed)
                begins = len(hops) == entry[tier]
                ends, closes = stage == end, stage == final
                hops.append(Hop(tier, exits, tuple(passed), begins, ends, closes))
                passed = []
    return Plan(bare, final > 0 and not bare, tuple(hops), entry)
