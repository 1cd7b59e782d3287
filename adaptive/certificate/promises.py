"""What a certificate says: its claims, its policies, its conditions. No procedure is here.

Opening a bundle reads these values; only certifying needs what makes them
(`adaptive.certificate.certify`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from adaptive.types import Policy, Target

Test = Literal["binomial", "paired", "paired_margin", "betting", "hoeffding_bentkus"]
Verdict = Literal["CERTIFIED", "NOT CERTIFIED", "DO NOT ROUTE"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One mean that must not exceed zero."""

    target: Target
    group: str | None  # of the target's column; None: all texts
    n: int  # its certification rows
    test: Test

    @property
    def place(self) -> str:
        """The texts it is about, as people read it; empty for all."""
        return "" if self.group is None else f"{self.target.group} = {self.group}"


@dataclass(frozen=True, slots=True)
class Tested:
    """A policy of the front on the certification rows."""

    policy: Policy
    cost: float  # mean
    excesses: tuple[float, ...]  # [c] mean; a claim holds where its expectation is at most 0
    p_values: tuple[float, ...]  # [c] for "the policy breaks the claim"

    @property
    def excess(self) -> float:
        """The greatest mean excess of any claim."""
        return max(self.excesses)

    @property
    def p_value(self) -> float:
        """For "the policy breaks a claim": the greatest."""
        return max(self.p_values)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the certification rows were answered."""

    device: str  # family: cpu, cuda or mps
    dtype: str  # of the tiers' weights
    max_length: int  # tokens
    rows: str  # SHA-256 of the rows' tokens and labels
    versions: Mapping[str, str]
    measured: str = ""  # what the cost table was measured on
    cut: float | None = None  # share of the rows that were longer; older certificates do not tell
    repeats: bool | None = None  # whether a text counts as often as it stands; older: not told
    known: int | None = None  # rows left out, since the build had used them; None: not looked for
    # what the cost table was measured on; older certificates do not tell, nor where work is counted
    processor: str = ""  # the model's name
    threads: int | None = None  # of torch
    batch_size: int | None = None  # rows
    pairs: bool | None = None  # whether the rows were pairs of texts; older ones do not tell


@dataclass(frozen=True, slots=True)
class Asked:
    """How its labels were come by, where they were asked for; see `adaptive.certificate.asking`."""

    labels: int  # rows that were labelled, of all
    accuracy: float  # lower bound of the full tier's
    accuracy_rows: int  # labelled rows that it comes from
    accuracy_from: str  # which these are
    ended: bool  # whether no further label could have changed the verdict


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was promised, tested and found.

    `hashes` is empty until a bundle is written; then it names every file that decides what the
    bundle answers.
    """

    targets: tuple[Target, ...]  # all hold, at one confidence
    claims: tuple[Claim, ...]  # [c] the targets' on all rows, or in each group
    verdict: Verdict
    obstacle: int | None  # the claim most short of rows where the verdict is NOT CERTIFIED
    rows_needed: int | None  # of the obstacle, about; None where none are, or no number would do
    policy: Policy  # the one to serve
    certified: int  # so many of the front, from its beginning, keep the target
    front: tuple[Tested, ...]  # in the order they were tested
    n: int  # certification rows
    seeds: Mapping[str, int]
    unit: str  # of costs
    conditions: Conditions
    hashes: Mapping[str, str] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    quality: Target | None = None  # proved of `policy` besides, where costs are promised alone
    labels_needed: int | None = None  # of `rows_needed`, about, where labels are asked for
    asked: Asked | None = None  # where labels were asked for; None: every row had its own
    further: tuple[Certificate, ...] = ()  # promises of other levels, on the same rows
    looks: int | None = None  # designs tested on these rows, this one included; None: not counted
    planned: int = 1  # looks planned beforehand, each tested at delta over so many
    spent: float | None = None  # the sum of the deltas of all looks; None: not counted
    seen_before: float = 0.0  # the greatest share of the rows that any earlier look had seen

    @property
    def target(self) -> Target:
        """The first of the targets."""
        return self.targets[0]

    @property
    def delta(self) -> float:
        """The greatest chance of a promise that is wrong."""
        return 1.0 - self.target.confidence

    @property
    def delta_tested(self) -> float:
        """The level of each test: delta over the looks that were planned."""
        return 1.0 - stricter(self.target, self.planned).confidence

    @property
    def confidence_proved(self) -> float:
        """Of the promise after all looks (`adaptive.certificate.looks`), at most its confidence."""
        return round(max(0.0, 1.0 - max(self.delta, self.spent or 0.0)), 9)

    @property
    def overlooked(self) -> bool:
        """Whether so many looks were taken that less than the confidence is proved."""
        return self.confidence_proved < round(self.target.confidence, 9)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The certified policies, safe to cheap. All of them hold at once."""
        return tuple(tested.policy for tested in self.front[: self.certified])

    def __repr__(self) -> str:
        """The verdict, what is promised and on how many rows."""
        from adaptive.policy.metrics import promise

        told = "; ".join(promise(target) for target in self.targets)
        return f"<Certificate {self.headline}: {told}; {self.n:,} rows>"

    def _repr_html_(self) -> str:
        """As notebooks show it: the verdict, what is promised, and on how many rows."""
        from adaptive.display import card
        from adaptive.policy.metrics import promise

        served = next((t for t in self.front if t.policy == self.policy), None)
        rows = [("promise", promise(target)) for target in self.targets]
        rows += [
            ("confidence proved", f"{self.confidence_proved:.4g}"),
            ("certification rows", f"{self.n:,}"),
            ("certified", f"{self.certified} of {len(self.front)} policies"),
        ]
        if served is not None:
            rows.append(("the served one costs", f"{served.cost:.4g} {self.unit} a text"))
        return card(self.headline, rows)

    def covers(self, policy: Policy) -> bool:
        """Whether the promise holds for the policy."""
        return policy in self.policies

    def at(self, target: Target) -> Certificate | None:
        """The same with the promise whose first target this is in the first place."""
        promises = [replace(self, further=(), hashes={}), *self.further]
        found = next((each for each in promises if each.target == target), None)
        if found is None:
            return None
        others = tuple(each for each in promises if each is not found)
        return replace(found, further=others, hashes=self.hashes)

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.verdict != "NOT CERTIFIED":
            told = f" at {self.confidence_proved:.4g} confidence, after {self.looks} looks"
            return f"{self.verdict}{told if self.overlooked else ''}"
        if not self.n:
            return "NOT CERTIFIED: there are no certification rows"
        claim = self.claims[self.obstacle or 0]
        of, there = (f" of {claim.place}", claim.n) if claim.place else ("", self.n)
        if self.rows_needed is not None:
            return f"NOT CERTIFIED: needs about {self.rows_needed:,} rows{of}, there are {there:,}"
        if not there:
            return f"NOT CERTIFIED: there are no rows{of}"
        where = f" for {claim.place}" if claim.place else ""
        return f"NOT CERTIFIED: on these rows the next policy misses the target{where}"

    @property
    def proposal(self) -> str | None:
        """The cheapest way on, where the verdict is NOT CERTIFIED and few labels would do."""
        if self.labels_needed is None or self.rows_needed is None:
            return None
        return (
            f"give about {self.rows_needed:,} new texts without labels; you would label about "
            f"{self.labels_needed:,} of them (adaptive certify --unlabelled --ask)"
        )


def stricter(target: Target, looks: int) -> Target:
    """The target at delta over so many looks."""
    if looks == 1:
        return target
    return replace(target, confidence=1.0 - (1.0 - target.confidence) / looks)
