"""One target on certification rows: what it claims, the p-values, the rows it would need.

A target claims that the mean of `adaptive.policy.targets.excess` is at most zero: over all texts,
or, where it names a column, over the texts of each of its groups. Each claim is tested on its own
rows by itself. A policy keeps all claims with the greatest of their p-values (`risk.worst`), so
that several targets and many groups cost no confidence; they cost rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.certificate.promises import Claim, Test
from adaptive.policy.lookup import is_bare
from adaptive.policy.metrics import metric_of
from adaptive.policy.targets import divide, excess, quality
from adaptive.risk import (
    betting,
    binomial,
    by_group,
    drop_counts,
    hoeffding_bentkus,
    paired,
    rows_for_betting,
    rows_for_binomial,
    rows_for_paired,
)
from adaptive.types import Evaluation, OutcomeTable, Policy, Target

Floats = NDArray[np.float64]
MeanTest = Literal["paired", "betting", "hoeffding_bentkus"]
STEP = 0.95  # each level at which a bound on the loss is sought is this share of the one before
STEPS = 200  # of them, down to some 0.00004


@dataclass(frozen=True, slots=True)
class Trial:
    """One target's claims, tried by several policies."""

    claims: tuple[Claim, ...]  # [c]
    owner: NDArray[np.int32]  # [n] the claim that each row is about
    excess: Floats  # [p, n]
    least: float  # that the excess of any text can be
    greatest: Floats  # [p]
    p_values: Floats  # [c, p] for "the policy breaks the claim"

    @property
    def means(self) -> Floats:
        """Mean excess, [c, p]; 0 where a claim has no rows."""
        rows = [self.excess[:, self.owner == claim] for claim in range(len(self.claims))]
        return np.stack([own.sum(1) / max(own.shape[1], 1) for own in rows])

    def rows_needed(self, policy: int, claim: int) -> int | None:
        """About the rows of the claim with which the policy passes in four draws of five.

        They are computed from the excesses of its rows; of all rows where it has none.

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
            allowed = metric_of(target).allowed(target)
            needed = rows_for_binomial(allowed, risk, delta=delta)
            needed = None if needed is None else int(np.ceil(needed / share))
        elif self.claims[claim].test == "paired":
            worse, better, both = (float(count) / len(values) for count in drop_counts(values))
            needed = rows_for_paired(worse, better, both, target.level, delta=delta)
        else:  # by betting, though Hoeffding and Bentkus' test would need more
            losses, counts = np.unique(values, return_counts=True)
            needed = rows_for_betting(
                losses,
                0.0,
                low=self.least,
                high=float(self.greatest[policy]),
                weights=counts,
                delta=delta,
            )
        return None if needed is None else max(needed, len(own) + 1)


def try_target(
    target: Target,
    policies: Sequence[Policy],
    results: Sequence[Evaluation],
    ceilings: Floats,
    table: OutcomeTable,
    seed: int,
    mean_test: MeanTest,
    accuracy: float = 1.0,
) -> Trial:
    """Test policies by what they did with certification rows.

    Losses of 0 and 1 (`agreement`, `accuracy`, `abstention`, `text_cost`) have the exact binomial
    test, over the rows that are answered; of abstention and text_cost, over all. Where answers are
    graded, promises about them have the betting test in place of exact ones. A group without
    rows has a p-value of 1, but for policies that keep the target whatever the text is: the full
    tier alone what is relative to itself (in float32 in torch, else it is not itself), a policy
    that always answers any abstention, one whose dearest text is within a budget that budget.

    Args:
        results: of each policy on the table, [p].
        ceilings: what a text can cost at most under each policy, [p], known before the rows are.
        seed: of the rows' order in the betting test; all groups share it.
        mean_test: of the signed drop in accuracy and of budgets.
        accuracy: of the full tier on other rows, see `adaptive.risk.paired`.

    Raises:
        ValueError: the table lacks labels or a column that the target needs.
    """
    test = _test_of(target, mean_test, table)
    values = np.stack([excess(target, result, table) for result in results])
    pairs = zip(policies, ceilings.tolist(), strict=True)
    bounds = [_bounds(target, policy, table, most) for policy, most in pairs]
    least, greatest = bounds[0][0], np.array([high for _, high in bounds])
    groups = divide(target, table)
    p_values = by_group(
        lambda own: _p_values(own, least, greatest, target, test, seed, accuracy),
        values,
        groups.index,
        len(groups.names),
    )
    counts = np.bincount(groups.index, minlength=len(groups.names)).tolist()
    claims = tuple(
        Claim(target, None if target.group is None else name, count, test)
        for name, count in zip(groups.names, counts, strict=True)
    )
    return Trial(claims, groups.index, values, least, greatest, p_values)


def bound_loss(
    policy: Policy,
    result: Evaluation,
    table: OutcomeTable,
    confidence: float,
    share: float,
    seed: int,
    mean_test: MeanTest,
    accuracy: float = 1.0,
) -> Target:
    """The least loss against the full tier that certification rows prove of a policy they chose.

    The levels 1, `STEP`, `STEP`^2, ... are tested downwards, each at this policy's share of delta,
    up to the first that fails; the last that passed is the bound. Were it below the true loss, the
    greatest of these levels that is below the true loss would have passed a test, and which that
    is does not depend on the rows. So of one policy the chance is at most its share of delta, and
    by the union bound at most delta that the bound of *any* of a family is wrong, whichever of
    them the rows chose, if the shares were fixed beforehand and sum to 1. Nothing is assumed of
    p-values as a function of the level.

    Args:
        result: of the policy on the table.
        share: of delta that is this policy's, see `shares`.
        mean_test: of the signed drop in accuracy.
        accuracy: of the full tier on other rows, see `adaptive.risk.paired`.
    """
    sought = quality(table, confidence)
    if _is_reference(policy, table):
        return sought
    test = _test_of(sought, mean_test, table)
    delta, proved = (1.0 - confidence) * share, replace(sought, level=1.0)
    lost = excess(sought, result, table)
    weight = lost - excess(proved, result, table)  # an excess is linear in its level
    for level in (STEP ** np.arange(1, STEPS + 1)).tolist():
        tried = replace(sought, level=level)
        strict = replace(tried, confidence=1.0 - delta)
        drop = (lost - level * weight)[None]
        ends = metric_of(tried).bounds(tried, np.inf)
        if _tested(drop, ends, strict, test, seed, accuracy)[0] > delta:
            break
        proved = tried
    return proved


def shares(policies: int, expected: int) -> Floats:
    """Shares of delta [p] for bounds of policies, most where other rows expect the choice to fall.

    In proportion to 1 / (1 + distance)^2, so that a choice a few places off keeps much of it.
    """
    weight = 1.0 / (1.0 + np.abs(np.arange(policies) - expected)) ** 2
    found: Floats = weight / weight.sum()
    return found


def _test_of(target: Target, mean_test: MeanTest, table: OutcomeTable) -> Test:
    """The test of a target's claims: exact where its losses are counts, else of a bounded mean."""
    metric = metric_of(target)
    exact = table.worth.exact if metric.labelled else table.worth.alike_exact
    counts = metric.kind != "mean" and (metric.about != "answers" or exact)
    if counts and metric.kind == "share":
        return "binomial"
    return "betting" if mean_test == "paired" and not counts else mean_test


def _is_reference(policy: Policy, table: OutcomeTable) -> bool:
    """Whether it is the full tier alone, in float32: what relative targets are relative to."""
    return table.worth.own and is_bare(policy) and policy.on(len(table.stages) - 1)


def _bounds(
    target: Target, policy: Policy, table: OutcomeTable, ceiling: float
) -> tuple[float, float]:
    """The least and the greatest excess of any text; nothing can break the target at 0 or less."""
    metric = metric_of(target)
    least, most = metric.bounds(target, ceiling)
    sure = metric.sure(target, policy, ceiling, _is_reference(policy, table))
    return least, 0.0 if sure else most


def _p_values(
    values: Floats,
    least: float,
    greatest: Floats,
    target: Target,
    test: Test,
    seed: int,
    accuracy: float,
) -> Floats:
    """P-values [p] of excesses [p, n] for H0: mean excess > 0."""
    found = np.zeros(len(values))
    for high in np.unique(greatest[greatest > 0.0]).tolist():
        like = greatest == high
        found[like] = _tested(values[like], (least, high), target, test, seed, accuracy)
    return found


def _tested(
    values: Floats,
    bounds: tuple[float, float],
    target: Target,
    test: Test,
    seed: int,
    accuracy: float,
) -> Floats:
    low, high = bounds
    if test == "binomial":  # the excess is a loss of 0 or 1, less the share of losses allowed;
        # it is nothing where nobody answers
        return binomial(values > 0.0, metric_of(target).allowed(target), values != 0.0)
    delta = 1.0 - target.confidence
    if test == "paired":
        counts, rows = drop_counts(values), values.shape[1]
        return paired(*counts, rows, target.level, accuracy=accuracy, delta=delta)
    if test == "betting":
        return betting(values, 0.0, low=low, high=high, seed=seed, delta=delta)
    return hoeffding_bentkus(values, 0.0, low=low, high=high)
