"""Texts whose true risks are known, drawn as often as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adaptive.bundle.contents import stages_of
from adaptive.certificate.certify import certify
from adaptive.certificate.promises import Certificate, Conditions
from adaptive.policy.costs import MILLISECONDS, CostTable
from adaptive.policy.fronts import front
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import search
from adaptive.policy.worth import classified, reclassified
from adaptive.types import ALWAYS, Groups, OutcomeTable, Policy, Target, Targets

STAGES = stages_of(((0,), (0,)))
FULL = Policy((1,), (float("inf"), ALWAYS))
CONDITIONS = Conditions("cpu", "float32", 32, "0" * 64, {"python": "3"})
CHEAP = Policy((0,), (ALWAYS, float("inf")))
COSTS = CostTable(
    MILLISECONDS,
    np.array([1.0, 2.0]),
    embed=np.zeros((2, 2)),
    segment=np.array([[1.0, 1.0], [10.0, 10.0]]),
    head=np.zeros((2, 2)),
    router=np.zeros(2),
)


@dataclass(frozen=True, slots=True)
class Population:
    """A cheap stage whose reliability is uniform, and the full tier.

    The risks do not depend on the reliability, so any policy's are known: the cheap stage
    answers a share of the texts and brings that share of its own risk. It costs 1, both cost 11.
    """

    worse: float = 0.15  # only the full tier is right
    better: float = 0.05  # only the cheap stage is
    accuracy: float = 0.9  # of the full tier

    def draw(self, rows: int, rng: np.random.Generator) -> OutcomeTable:
        """So many independent texts."""
        edges = np.cumsum([self.worse, self.better, self.accuracy - self.worse])
        kind = np.searchsorted(edges, rng.random(rows), side="right")
        full, cheap = np.isin(kind, (0, 2)), np.isin(kind, (1, 2))
        return classified(
            STAGES,
            np.stack([cheap, full], 1).astype(np.int32),
            np.stack([rng.random(rows), np.ones(rows)], 1).astype(np.float32),
            np.zeros((rows, 2), np.float32),
            np.ones(rows, np.int32),
            np.ones(rows, np.int64),
        )

    def share(self, policy: Policy) -> float:
        """Of the texts that the cheap stage answers."""
        if 0 not in policy.path or policy.path == (0,):
            return float(policy.path == (0,))
        return 1.0 - float(np.clip(policy.thresholds[0], 0.0, 1.0))

    def loss(self, policy: Policy, metric: str) -> float:
        """What the policy really loses against the full tier."""
        if metric == "agreement":
            return self.share(policy) * (self.worse + self.better)
        return self.share(policy) * (self.worse - self.better) / self.accuracy

    def excess(self, policy: Policy, target: Target) -> float:
        """What the policy's mean excess really is."""
        share = self.share(policy)
        dear = 10.0 if policy.path == (1,) else 1.0 + 10.0 * (1.0 - share)
        if target.metric == "milliseconds":
            return dear / target.level - 1.0
        if target.metric == "text_cost":
            return 1.0 - share - target.level
        if target.metric == "agreement":
            return share * (self.worse + self.better) - target.level
        lost = share * (self.worse - self.better)
        if target.metric == "accuracy":
            return target.level - (self.accuracy - lost)
        return lost - target.level * self.accuracy

    def target(self, metric: str, share: float, confidence: float) -> Target:
        """The target whose level is met exactly where the cheap stage answers such a share."""
        lost = share * (self.worse - self.better)
        level = {
            "agreement": share * (self.worse + self.better),
            "accuracy": self.accuracy - lost,
            "accuracy_drop": lost / self.accuracy,
            "milliseconds": 1.0 + 10.0 * (1.0 - share),
            "text_cost": 1.0 - share,
        }[metric]
        bound = 5.0 if metric == "text_cost" else None
        return Target(metric, level, confidence, bound=bound)  # type: ignore[arg-type]


def answering(share: float) -> Policy:
    """The policy under which the cheap stage answers such a share of the texts."""
    return Policy((0, 1), (1.0 - share, ALWAYS))


def certified(
    ordered: list[Policy], table: OutcomeTable, target: Targets, seed: int = 0, **given: object
) -> Certificate:
    """`certify` at the prices of the population."""
    return certify(ordered, table, COSTS, target, seed, CONDITIONS, **given)  # type: ignore[arg-type]


def wrong_with_search(
    draw: Callable[[int, np.random.Generator], OutcomeTable],
    truth: Callable[[Policy], float],
    target: Targets,
    draws: int,
    stream: int,
) -> tuple[int, int]:
    """Wrong certificates of the whole procedure, and how often the front held a wrong policy.

    Args:
        draw: so many texts.
        truth: a policy's true mean excess.
        stream: of the random numbers, a test's own.
    """
    wrong = tempting = 0
    for number in range(draws):
        rng = np.random.default_rng([stream, number])
        seen, unseen = draw(150, rng), draw(300, rng)
        lookup = Lookup.of(seen, COSTS.at(seen.tokens))
        found = search(lookup, target, margin=0.0, sweeps=1, routed=False)
        ordered = [f.policy for f in front(lookup, target, found, sweeps=1)]
        tempting += any(truth(policy) > 0 for policy in ordered)
        served = certified(ordered, unseen, target, number)
        wrong += any(truth(policy) > 0 for policy in served.policies)
    return wrong, tempting


@dataclass(frozen=True, slots=True)
class Mixed:
    """Several populations, each a group of its own in the column `kind`."""

    kinds: tuple[Population, ...]
    shares: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups."""
        return tuple("abcdefgh"[: len(self.kinds)])

    def draw(self, rows: int, rng: np.random.Generator) -> OutcomeTable:
        """So many independent texts, in random order of their kinds."""
        index = rng.choice(len(self.kinds), rows, p=self.shares).astype(np.int32)
        table = self.kinds[0].draw(rows, rng)
        predictions = table.predictions.copy()
        for number, people in enumerate(self.kinds):
            own = index == number
            predictions[own] = people.draw(int(own.sum()), rng).predictions
        table = reclassified(table, predictions=predictions)
        return replace(table, groups={"kind": Groups(self.names, index)})

    def excess(self, policy: Policy, targets: Sequence[Target]) -> float:
        """The greatest of the policy's true mean excesses."""
        found = []
        for target in targets:
            own = [people.excess(policy, target) for people in self.kinds]
            found.append(max(own) if target.group else float(np.dot(own, self.shares)))
        return max(found)


def most(delta: float, draws: int) -> int:
    """Wrong certificates that chance leaves room for, three standard errors above delta."""
    return int(draws * delta + 3 * np.sqrt(draws * delta * (1 - delta)))
