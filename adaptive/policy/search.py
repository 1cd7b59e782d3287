"""The best policy that keeps a target on the search split.

The best is the cheapest found; where costs are all that is promised, the one that loses least
against the full tier (`adaptive.policy.targets.loss`).

The choice is a held-out one with a stated margin: the target must hold with `margin` standard
errors to spare. Where the look-up brings expected losses, they stand in for the labels' (see
`adaptive.training.smooth`), and the errors are theirs. It promises nothing. The promise is
`adaptive.certificate.certify`'s, which tests the front around it (`adaptive.policy.fronts`) on rows
the search has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import (
    Lookup,
    is_bare,
    last_exits,
    single_stage,
    tier_alone,
    useful_tiers,
)
from adaptive.policy.scan import scan
from adaptive.policy.targets import (
    check_unit,
    full_may_miss,
    loss,
    may_abstain,
    mean_excess,
    seeks_quality,
    several,
)
from adaptive.types import ALWAYS, NEVER, Evaluation, Policy, Stage, Targets

LEVELS = 24  # thresholds tried at each stage: quantiles of its reliability
WEIGHTS = 7  # risk weights tried for the router's entry rule


@dataclass(frozen=True, slots=True)
class Found:
    """A policy and how it did on the rows it was searched on."""

    policy: Policy
    cost: float  # mean
    excess: float  # the worst target's and group's mean, plus the margin; kept where <= 0
    loss: float = 0.0  # against the full tier, where costs are all that is promised

    @property
    def rank(self) -> tuple[float, float]:
        """The less, the better."""
        return self.loss, self.cost


def search(
    lookup: Lookup, target: Targets, *, margin: float, sweeps: int, routed: bool
) -> list[Found]:
    """The best policy of each kind that keeps the target, best first.

    Starts from one shared threshold for each path through the `useful_tiers`, then moves one
    threshold at a time to the best value that keeps the target (coordinate descent), switching
    exits off where that pays, for at most `sweeps` rounds.

    Args:
        lookup: outcome and cost tables of the search split.
        margin: standard errors of the mean excess to spare.
        routed: whether entry rules by the table's router risk are members of the family.

    Returns:
        At least the full tier alone, which keeps every target but an `accuracy` out of reach or
        a promise about costs, and in int8 may miss any; where costs are all that is promised, at
        least the cheapest stage alone.

    Raises:
        TargetError: a target is about costs in another unit.
    """
    judge, useful = Judge(lookup, target, margin), useful_tiers(lookup.table)
    stages = lookup.table.stages
    alone = [single_stage(stages, k) for k, s in enumerate(stages) if s.tier in useful]
    found = [judge(each) for policy in alone for each in judge.leaving(policy)]
    for path in paths(useful):
        start = judge.shared(path)
        if start is not None:
            found.append(judge.descend(start, sweeps))
    if routed:
        best = min((f for f in found if f.excess <= 0), key=_rank, default=judge.lead)
        entered = judge.routed([*found, best])
        starts = [f for f in entered if judge.aim(f) < 1.5 * judge.aim(best)]
        found += [judge.descend(f, sweeps) for f in starts]
    kept = [f for f in found if f.excess <= 0.0]
    if not any(f.policy == judge.lead.policy for f in kept):
        kept.append(judge.lead)
    return sorted(kept, key=_rank)


def refine(
    lookup: Lookup, target: Targets, start: Policy, *, margin: float, sweeps: int
) -> Found | None:
    """The best policy reached from `start` by moving thresholds alone; its entry rule stays.

    Returns:
        None where not even the start with every early exit switched off keeps the target, or,
        where costs are all that is promised, with every exit wide open.
    """
    return _refined(Judge(lookup, target, margin), start, sweeps)


def _rank(found: Found) -> tuple[float, float]:
    return found.rank


def _refined(judge: Judge, start: Policy, sweeps: int) -> Found | None:
    begun = judge(start)
    if begun.excess > 0.0:
        begun = judge(replace(start, thresholds=judge.safest(start)))
    return judge.descend(begun, sweeps) if begun.excess <= 0.0 else None


def paths(tiers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every ascending choice of tiers."""
    for size in range(1, len(tiers) + 1):
        yield from combinations(tiers, size)


def shared_thresholds(stages: Sequence[Stage], path: Sequence[int], level: float) -> Policy:
    """The policy with one threshold on every exit of the path."""
    on = (level if stage.tier in path else NEVER for stage in stages)
    return Policy(tuple(path), tuple(on))


@dataclass(frozen=True, slots=True)
class Score:
    """A policy on the search rows."""

    cost: float  # mean
    excess: NDArray[np.float64]  # [c] mean, of each target in each group
    error: NDArray[np.float64]  # [c] its standard error
    loss: float  # as in `Found`


class Judge:
    """Scores policies on one table, and moves them."""

    def __init__(
        self,
        lookup: Lookup,
        target: Targets,
        margin: float,
        scores: dict[Policy, Score] | None = None,
    ) -> None:
        self.lookup, self.targets, self.margin = lookup, several(target), margin
        self.abstains = may_abstain(self.targets)
        self.good = seeks_quality(self.targets)
        self.may_miss = full_may_miss(self.targets, lookup.table)
        check_unit(self.targets, lookup.unit)
        self.scores = {} if scores is None else scores  # of all policies seen so far
        self.stages = lookup.table.stages
        quantiles = np.linspace(0.0, 1.0, LEVELS + 1)[:-1]
        self.grid = [
            np.unique(np.quantile(lookup.table.reliability[:, k], quantiles)).tolist()
            for k in range(len(self.stages))
        ]

    @cached_property
    def lead(self) -> Found:
        """The policy that keeps the target if any does: the full tier alone, or the cheapest."""
        if not self.good:
            return self(tier_alone(self.stages, self.stages[-1].tier))
        useful = useful_tiers(self.lookup.table)
        alone = [
            self(single_stage(self.stages, k))
            for k, stage in enumerate(self.stages)
            if stage.tier in useful
        ]
        return min(alone, key=lambda f: f.cost)

    def safest(self, policy: Policy) -> tuple[float, ...]:
        """Thresholds with which the policy is likeliest to keep the target, its path as it is."""
        if self.good:
            lows = enumerate(grid[0] for grid in self.grid)
            return tuple(low if policy.on(k) else NEVER for k, low in lows)
        last = last_exits(policy, self.stages).values()
        return tuple(
            max(self.grid[k][-1], threshold) if k in last else NEVER
            for k, threshold in enumerate(policy.thresholds)
        )

    def aim(self, found: Found) -> float:
        """What is to be made small."""
        return found.loss if self.good else found.cost

    def __call__(self, policy: Policy) -> Found:
        score = self.scores.get(policy)
        if score is None:
            result = self.lookup.evaluate(policy)
            drop = self.lookup.drop
            if drop is not None:
                drop = drop[np.arange(len(drop)), result.stage]
            means = mean_excess(self.targets, result, self.lookup.table, drop)
            lost = self._loss(policy, result, drop) if self.good else 0.0
            score = Score(float(result.cost.mean()), *means, lost)
            self.scores[policy] = score
        excess = float((score.excess + self.margin * score.error).max())
        return Found(policy, score.cost, excess, score.loss)

    def _loss(self, policy: Policy, result: Evaluation, drop: NDArray[np.float64] | None) -> float:
        """Half a text at least: that nothing is lost is known of the full tier alone."""
        table = self.lookup.table
        if table.worth.own and is_bare(policy) and policy.on(len(self.stages) - 1):
            return 0.0
        return max(loss(result, table, drop), 0.5 / max(len(table), 1))

    def shared(self, path: tuple[int, ...], like: Policy | None = None) -> Found | None:
        """The best shared threshold on every exit of the path that keeps the target.

        Args:
            like: whose entry rule all have; None: they have none.
        """
        values = np.unique(np.quantile(self.lookup.table.reliability, np.linspace(0, 1, 60)))
        every = [shared_thresholds(self.stages, path, v) for v in values.tolist()]
        if like is not None:
            every = [replace(like, path=path, thresholds=each.thresholds) for each in every]
        every = every[:: 3 if self.abstains else 1]
        tried = [self(each) for policy in every for each in self.leaving(policy)]
        return min((f for f in tried if f.excess <= 0.0), key=_rank, default=None)

    def leaving(self, policy: Policy) -> list[Policy]:
        """The policy, and those that leave to nobody what it is least sure of, if targets allow."""
        if not self.abstains:
            return [policy]
        last = last_exits(policy, self.stages)[policy.path[-1]]
        return [policy, *(replace(policy, abstain=v) for v in self.grid[last][1:])]

    def descend(self, start: Found, sweeps: int) -> Found:
        """Coordinate descent over thresholds, then the risk weight; never leaves the target."""
        best = start
        for _ in range(sweeps):
            before = best
            for stage in [k for k, s in enumerate(self.stages) if s.tier in best.policy.path]:
                moves = [*self._worth(best.policy, stage), best.policy.with_threshold(stage, NEVER)]
                best = self._best(best, [m for m in moves if self._whole(m)])
            # One stage loosened buys room that another can only use if both move at once.
            best = self._best(best, self._trades(best.policy))
            if self.aim(best) >= self.aim(before) * 0.999:
                break
        return best

    def _worth(self, policy: Policy, stage: int) -> list[Policy]:
        """The policy with thresholds of the stage among which the best one is."""
        grid = self.grid[stage]
        if stage >= max(k for k in range(len(self.stages)) if policy.on(k)):
            return [policy.with_threshold(stage, grid[0])]  # whatever it is, all texts pass
        moves = [policy.with_threshold(stage, v) for v in grid]
        if self.good:
            return moves
        cost, means, errors = scan(self.lookup, self.targets, policy, stage, grid)
        kept = (means + self.margin * errors).max(1) <= 1e-12  # sums are rounded otherwise here
        return [moves[np.where(kept, cost, np.inf).argmin()]] if kept.any() else []

    def _best(self, best: Found, moves: Sequence[Policy]) -> Found:
        kept = [f for f in map(self, moves) if f.excess <= 0.0]
        return min([best, *kept], key=_rank)

    def _whole(self, policy: Policy) -> bool:
        on = {s.tier for k, s in enumerate(self.stages) if policy.on(k)}
        return on == set(policy.path)

    def _trades(self, policy: Policy) -> list[Policy]:
        """One switched-on stage's threshold a step down, and another's or `abstain` a step up."""
        on = [k for k in range(len(self.stages)) if policy.on(k)]
        looser = [policy.with_threshold(a, self._step(a, policy.thresholds[a], -1)) for a in on]
        left = last_exits(policy, self.stages)[policy.path[-1]] if self.abstains else 0
        more = self._step(left, policy.abstain, 1)
        return [replace(each, abstain=more) for each in looser if self.abstains] + [
            policy.with_threshold(a, self._step(a, policy.thresholds[a], -1)).with_threshold(
                b, self._step(b, policy.thresholds[b], 1)
            )
            for a in on
            for b in on
            if a != b
        ]

    def _step(self, stage: int, value: float, by: int) -> float:
        grid = self.grid[stage]
        place = int(np.searchsorted(grid, value)) + by
        return ALWAYS if place < 0 else grid[min(place, len(grid) - 1)]

    def routed(self, found: Sequence[Found]) -> Iterator[Found]:
        """Found policies with an entry rule in front, where that keeps the target."""
        run = self.lookup.run.mean(0)
        last = {s.tier: k for k, s in enumerate(self.stages)}
        entry_cost = tuple(float(run[last[tier]]) for tier in sorted(last))
        scale = max(entry_cost)
        for base in found:
            if len(base.policy.path) < 2:
                continue
            tried = [
                self(replace(base.policy, risk_weight=float(w), entry_cost=entry_cost))
                for w in scale * np.logspace(-0.5, 1.5, WEIGHTS)
            ]
            kept = [f for f in tried if f.excess <= 0.0]
            if kept:
                yield min(kept, key=_rank)
