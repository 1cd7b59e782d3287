"""The certificate: which policies of a front keep a target, proved on rows never used before.

Every target is a mean of bounded values that must not exceed zero (`adaptive.policy.excess`), so
each policy of the front has one p-value for "it breaks the target". They are tested in the
front's order, safe to cheap, each at the whole of delta, up to the first that fails (fixed-
sequence testing). With probability 1 - delta over the certification rows, *all* policies before
that one keep the target; any of them may be served, and the cheapest is.

The front, its order and the test must be fixed before the rows are looked at, and the rows must
have served for nothing else. Then neither a bad router nor a bad exit can break the promise:
they can only make its policies dear.

References:
    Angelopoulos, Bates, Candès, Jordan, Lei (2022), Learn then Test, arXiv:2110.01052.
    Laufer-Goldshtein, Fisch, Barzilay, Jaakkola (2023), efficiently controlling multiple risks
        with Pareto Testing, ICLR, arXiv:2210.07913: the order is a Pareto front's.
    For the tests themselves see `adaptive.risk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.costs import CostTable
from adaptive.errors import TargetError
from adaptive.policy import Lookup, excess, is_bare, tier_alone
from adaptive.risk import (
    betting,
    binomial,
    fixed_sequence,
    hoeffding_bentkus,
    rows_for_betting,
    rows_for_binomial,
)
from adaptive.types import OutcomeTable, Policy, Target

Floats = NDArray[np.float64]
Verdict = Literal["CERTIFIED", "NOT CERTIFIED", "DO NOT ROUTE"]
Test = Literal["binomial", "betting", "hoeffding_bentkus"]

ASSUMPTIONS = (
    "The texts to come are exchangeable with the certification rows: of the same source, time "
    "and kind. Of others nothing is promised.",
    "The certification rows served for nothing else: no weight, threshold, router or policy was "
    "fitted or chosen on them, and they decided once.",
    "It holds for this bundle, in this dtype and on this device family, for texts cut to this "
    "length; not for texts read in windows.",
    "Nobody chooses texts in order to be answered wrongly.",
    "It holds for the mean over texts, not for each text and not for each label or group.",
)


@dataclass(frozen=True, slots=True)
class Tested:
    """A policy of the front on the certification rows."""

    policy: Policy
    cost: float  # mean
    excess: float  # mean; the target holds where its expectation is at most 0
    p_value: float  # for "the policy breaks the target"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the certification rows were answered."""

    device: str  # family: cpu, cuda or mps
    dtype: str  # of the tiers' weights
    max_length: int  # tokens
    rows: str  # SHA-256 of the rows' tokens and labels
    versions: Mapping[str, str]
    measured: str = ""  # what the cost table was measured on


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was promised, tested and found.

    `hashes` is empty until a bundle is written; then it names every file that decides what the
    bundle answers.
    """

    target: Target
    verdict: Verdict
    rows_needed: int | None  # about; None where none are, or no number would do
    policy: Policy  # the one to serve
    certified: int  # so many of the front, from its beginning, keep the target
    front: tuple[Tested, ...]  # in the order they were tested
    test: Test
    n: int  # certification rows
    seeds: Mapping[str, int]
    unit: str  # of costs
    conditions: Conditions
    hashes: Mapping[str, str] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ASSUMPTIONS

    @property
    def delta(self) -> float:
        """The greatest chance of a promise that is wrong."""
        return 1.0 - self.target.confidence

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The certified policies, safe to cheap. All of them hold at once."""
        return tuple(tested.policy for tested in self.front[: self.certified])

    def covers(self, policy: Policy) -> bool:
        """Whether the promise holds for the policy."""
        return policy in self.policies

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.verdict != "NOT CERTIFIED":
            return self.verdict
        if not self.n:
            return "NOT CERTIFIED: there are no certification rows"
        if self.rows_needed is None:
            return "NOT CERTIFIED: on these rows the next policy misses the target"
        return f"NOT CERTIFIED: needs about {self.rows_needed:,} rows, there are {self.n:,}"


def certify(
    front: Sequence[Policy],
    table: OutcomeTable,
    costs: CostTable,
    target: Target,
    seed: int,
    conditions: Conditions,
    *,
    test: Literal["betting", "hoeffding_bentkus"] = "betting",
) -> Certificate:
    """Test a front on certification rows and choose the policy to serve.

    Losses of 0 and 1 (`agreement`, `accuracy`) have the exact binomial test. The signed drop has
    the betting test, or Hoeffding and Bentkus', which needs no order of rows and more of them.

    The verdict is DO NOT ROUTE where the policy to serve is one stage for all texts and nothing
    cheaper was there to be tested, or where a stage cheaper than the full tier is certified by
    itself; NOT CERTIFIED where a front of cheaper policies failed at its beginning.

    Args:
        front: safe to cheap, the full tier alone first, as `adaptive.search.front` orders it on
            other rows.
        table: outcomes of the certification rows.
        seed: of the rows' order in the betting test, fixed before the rows are looked at.
        test: of the signed drop.

    Raises:
        TargetError: the target needs labels and the rows have none.
        ValueError: the front is empty, or does not begin with the full tier alone.
    """
    full = tier_alone(table.stages, table.stages[-1].tier)
    if not front or front[0] != full:
        raise ValueError("a front begins with the full tier alone")
    chosen_test: Test = test if target.metric == "accuracy_drop" else "binomial"
    lookup = Lookup.of(table, costs.at(table.tokens))
    values, prices = _outcomes(front, lookup, target)
    p_values = _p_values(values, target, chosen_test, seed)
    if target.metric != "accuracy":
        p_values[0] = 0.0  # relative to itself the full tier loses nothing, on any rows
    last = fixed_sequence(p_values, 1.0 - target.confidence)
    certified = 0 if last is None else last + 1
    served = int(prices[:certified].argmin()) if certified else 0
    verdict = _verdict(front, served, certified)
    needed = None
    if verdict == "NOT CERTIFIED":
        needed = _rows_needed(values[certified], target, chosen_test)
    tested = zip(front, prices.tolist(), values, p_values.tolist(), strict=True)
    return Certificate(
        target=target,
        verdict=verdict,
        rows_needed=needed,
        policy=front[served],
        certified=certified,
        front=tuple(Tested(p, cost, _mean(row), p_value) for p, cost, row, p_value in tested),
        test=chosen_test,
        n=len(table),
        seeds={"rows": seed},
        unit=costs.unit,
        conditions=conditions,
    )


def _outcomes(front: Sequence[Policy], lookup: Lookup, target: Target) -> tuple[Floats, Floats]:
    """Each policy's excess on each row [p, n], and its mean cost [p]."""
    values, prices = [], []
    for policy in front:
        result = lookup.evaluate(policy)
        try:
            values.append(excess(target, result.prediction, lookup.table))
        except ValueError as error:
            raise TargetError(str(error)) from None
        prices.append(_mean(result.cost))
    return np.stack(values), np.array(prices)


def _p_values(values: Floats, target: Target, test: Test, seed: int) -> Floats:
    """P-values [p] of excesses [p, n] for H0: mean excess > 0."""
    greatest = target.level if target.metric == "accuracy" else 1.0 - target.level
    if greatest <= 0.0:  # nothing could break it
        return np.zeros(len(values))
    if test == "binomial":  # the excess is a loss of 0 or 1, less the share of losses allowed
        return binomial(values > 0.0, _allowed(target))
    if test == "betting":
        delta = 1.0 - target.confidence
        return betting(values, 0.0, low=-1.0, high=greatest, seed=seed, delta=delta)
    return hoeffding_bentkus(values, 0.0, low=-1.0, high=greatest)


def _verdict(front: Sequence[Policy], served: int, certified: int) -> Verdict:
    if certified and not is_bare(front[served]):
        return "CERTIFIED"
    untested = len(front) > certified
    return "NOT CERTIFIED" if served == 0 and untested else "DO NOT ROUTE"


def _rows_needed(values: Floats, target: Target, test: Test) -> int | None:
    """About the rows with which the policy of these excesses [n] passes in four draws of five."""
    delta = 1.0 - target.confidence
    if not len(values):
        return None
    if test == "binomial":
        needed = rows_for_binomial(_allowed(target), _mean(values > 0.0), delta=delta)
    else:  # by betting, though Hoeffding and Bentkus' test would need more
        found, counts = np.unique(values, return_counts=True)
        high = 1.0 - target.level
        needed = rows_for_betting(found, 0.0, low=-1.0, high=high, weights=counts, delta=delta)
    return None if needed is None else max(needed, len(values) + 1)


def _allowed(target: Target) -> float:
    """The share of losses that the target allows."""
    return 1.0 - target.level if target.metric == "accuracy" else target.level


def _mean(values: Floats | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
