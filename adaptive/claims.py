"""One target on certification rows: what it claims, the p-values, the rows it would need.

A target claims that the mean of `adaptive.policy.excess` is at most zero: over all texts, or,
where it names a column, over the texts of each of its groups. Each claim is tested on its own
rows by itself. A policy keeps all claims with the greatest of their p-values (`risk.worst`), so
that several targets and many groups cost no confidence; they cost rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.policy import Evaluation, divide, excess
from adaptive.risk import (
    betting,
    binomial,
    by_group,
    hoeffding_bentkus,
    rows_for_betting,
    rows_for_binomial,
)
from adaptive.types import OutcomeTable, Target

Floats = NDArray[np.float64]
Test = Literal["binomial", "betting", "hoeffding_bentkus"]
DropTest = Literal["betting", "hoeffding_bentkus"]


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
class Trial:
    """One target's claims, tried by several policies."""

    claims: tuple[Claim, ...]  # [c]
    owner: NDArray[np.int32]  # [n] the claim that each row is about
    excess: Floats  # [p, n]
    p_values: Floats  # [c, p] for "the policy breaks the claim"

    @property
    def means(self) -> Floats:
        """Mean excess, [c, p]; 0 where a claim has no rows."""
        rows = [self.excess[:, self.owner == claim] for claim in range(len(self.claims))]
        return np.stack([own.sum(1) / max(own.shape[1], 1) for own in rows])

    def rows_needed(self, policy: int, claim: int) -> int | None:
        """About the rows of the claim with which the policy passes in four draws of five.

        They are reckoned from the excesses of its rows; of all rows where it has none.

        Returns:
            None where no number would do, going by these rows.
        """
        target, values = self.claims[claim].target, self.excess[policy]
        own = values[self.owner == claim]
        values, delta = own if len(own) else values, 1.0 - target.confidence
        if not len(values):
            return None
        if self.claims[claim].test == "binomial":
            share = float((values != 0.0).mean())  # of the texts, that are answered
            if not share:
                return None
            risk = float((values > 0.0).mean()) / share
            needed = rows_for_binomial(_allowed(target), risk, delta=delta)
            needed = None if needed is None else int(np.ceil(needed / share))
        else:  # by betting, though Hoeffding and Bentkus' test would need more
            losses, counts = np.unique(values, return_counts=True)
            high = 1.0 - target.level
            needed = rows_for_betting(losses, 0.0, low=-1.0, high=high, weights=counts, delta=delta)
        return None if needed is None else max(needed, len(own) + 1)


def try_target(
    target: Target,
    results: Sequence[Evaluation],
    table: OutcomeTable,
    seed: int,
    drop_test: DropTest,
) -> Trial:
    """Test policies by what they did with certification rows.

    Losses of 0 and 1 (`agreement`, `accuracy`, `abstention`) have the exact binomial test, over
    the rows that are answered. A group without rows has a p-value of 1.

    Args:
        results: of each policy on the table; the first is the full tier alone, which keeps
            what is relative to itself by definition, unless it is served in int8.
        seed: of the rows' order in the betting test; all groups share it.
        drop_test: of the signed drop in accuracy.

    Raises:
        ValueError: the table lacks labels or a column that the target needs.
    """
    test: Test = drop_test if target.metric == "accuracy_drop" else "binomial"
    values = np.stack([excess(target, result.prediction, table) for result in results])
    groups = divide(target, table)
    p_values = by_group(
        lambda own: _p_values(own, target, test, seed), values, groups.index, len(groups.names)
    )
    if target.metric != "accuracy" and table.unquantised is None:
        p_values[:, 0] = 0.0  # relative to itself the full tier loses nothing, on any rows
    counts = np.bincount(groups.index, minlength=len(groups.names)).tolist()
    claims = tuple(
        Claim(target, None if target.group is None else name, count, test)
        for name, count in zip(groups.names, counts, strict=True)
    )
    return Trial(claims, groups.index, values, p_values)


def _p_values(values: Floats, target: Target, test: Test, seed: int) -> Floats:
    """P-values [p] of excesses [p, n] for H0: mean excess > 0."""
    greatest = target.level if target.metric == "accuracy" else 1.0 - target.level
    if greatest <= 0.0:  # nothing could break it
        return np.zeros(len(values))
    if test == "binomial":  # the excess is a loss of 0 or 1, less the share of losses allowed;
        # it is nothing where nobody answers
        return binomial(values > 0.0, _allowed(target), values != 0.0)
    if test == "betting":
        delta = 1.0 - target.confidence
        return betting(values, 0.0, low=-1.0, high=greatest, seed=seed, delta=delta)
    return hoeffding_bentkus(values, 0.0, low=-1.0, high=greatest)


def _allowed(target: Target) -> float:
    """The share of losses that the target allows."""
    return 1.0 - target.level if target.metric == "accuracy" else target.level
