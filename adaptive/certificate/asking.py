"""Which labels a sequence of tests still needs: a drop against the full tier, proved by few labels.

A policy that answers a row as the full tier does is neither worse nor better there, whatever the
label. So every stage runs on N rows without labels, and labels are asked only of rows that the
next policy to be tested answers otherwise than the full tier. A differing row is *worse* if its
label is the full tier's answer, *better* if it is the policy's, and neither otherwise. The
hypothesis to refute of each policy is

    H0: P(worse) - P(better) > margin,    margin = level x a_low

with a_low a lower bound of the full tier's accuracy from *other* labelled rows (`accuracy_bound`),
so that the margin is a constant as far as the N rows are concerned. Policies are tested in an order
that other rows fixed, each at the same error, up to the first that fails.

Why it is valid, at an error of delta in all:

1. With all N labels. Let a be the full tier's accuracy. But for a chance of delta / 50 over the
   other rows a_low <= a (Clopper and Pearson). Then a policy that breaks the promise, P(worse) -
   P(better) > level x a, has a true H0. A broken promise among those that pass means that the
   first true H0 of the fixed order was refuted, whose chance is at most delta - delta / 50
   (`error_of_tests`), given the other rows: N, margin and order were fixed before. The sum is
   delta (union bound).
2. With some labels unknown. With u of policy j's differing rows unlabelled, its counts with all
   labels lie in the triangle of (worse + x, better + y) with x + y <= u, and its p-value between
   the least and the greatest there. It passes here only if the greatest is within the error, so
   only if it passes with all labels; it fails only if the least is not. So what is certified here
   is at most what all labels would certify, for *every* way of choosing rows and every time of
   stopping, whether they follow the labels seen so far or not: labels that were not asked for
   enter no decision. The chance of 1 is not exceeded. Asked to the end, the verdict is that of
   all labels.

The p-value never falls with `worse` and never rises with `better`: beside them it depends on the
number of differing rows alone, which is known (`risk.paired_margin` with `differing`). So its ends
are where all unknown rows are worse, and where all are better. What must hold: the label of a row
is the same whether, when and with which others it is asked, and N was fixed before any label.

References:
    Berger (1982), Maurer, Hothorn, Lehmacher (1995): tests in a fixed order.
    Clopper and Pearson (1934), Biometrika 26. For the test see `adaptive.risk.paired`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.risk import lower, paired_margin
from adaptive.risk.paired import score

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]

SPARED = 50  # delta over this is what the bound on the full tier's accuracy may cost
WEIGHT = 10.0  # labels that the guess of how a policy's differing rows fall counts as
Test = tuple[int, float, float, int]  # rows, margin, error, rows that differ
End = Literal["asking", "failed", "passed"]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A front on unlabelled rows: everything that is fixed before a label is seen."""

    # [p, n] where each policy answers otherwise than the full tier, in the order of their tests
    differs: Bools
    margin: float  # of P(worse) - P(better), a constant
    error: float  # of each test, see `error_of_tests`
    sure: Bools  # [p] keeps the promise by definition, so it has no test
    guess: Floats  # [p, 2] shares of differing rows thought worse and better; for forecasts alone
    seed: int = 0  # of the order among rows of equal use

    @property
    def test(self) -> Test:
        """What p-values depend on beside the counts of worse and better rows.

        Of the rows that differ the most of any policy are taken: a wider confidence set costs
        hardly anything, and then one critical score decides all policies.
        """
        most = int(self.differs.sum(1).max(initial=0))
        return self.differs.shape[1], self.margin, self.error, most


@dataclass(frozen=True, slots=True)
class Counts:
    """Differing rows of each policy, [p] each."""

    worse: Ints  # labelled as the full tier answers
    better: Ints  # labelled as the policy answers
    unknown: Ints  # without a label

    def of(self, policy: int) -> tuple[int, int, int]:
        """Worse, better and unknown rows of a policy."""
        return int(self.worse[policy]), int(self.better[policy]), int(self.unknown[policy])


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a line has come with the labels known so far."""

    passed: int  # so many policies, from its beginning
    end: End  # "asking": the next policy's test is open; else no label can change the verdict


@dataclass(frozen=True, slots=True)
class Step:
    """What deciding one more policy is expected to take."""

    policy: int
    rows: Ints  # [m] to label, most decisive first
    passes: bool  # whether it is expected to


def accuracy_bound(right: int, rows: int, delta: float) -> float:
    """Clopper and Pearson's lower bound of an accuracy, wrong with a chance of delta / `SPARED`.

    Args:
        right: rows that the full tier has right, of `rows` others than those to be tested on.
        delta: the error of the whole certificate.
    """
    return lower(right, rows, delta / SPARED)


def error_of_tests(delta: float) -> float:
    """What is left for the tests beside the bound on the accuracy."""
    return delta * (1.0 - 1.0 / SPARED)


def count(lost: Floats) -> Counts:
    """Counts of each policy.

    Args:
        lost: [p, n] how much lower than the full tier each policy scores, of 0 and 1: 1 where it
            is worse, -1 where better, 0 where neither, as wherever answers do not differ; NaN
            where that depends on a label that is not known. See `adaptive.policy.worth.lost`.
    """
    return Counts((lost > 0).sum(1), (lost < 0).sum(1), np.isnan(lost).sum(1))


def standing(line: Line, lost: Floats) -> Standing:
    """Walk the line as far as the labels known so far decide.

    Args:
        lost: [p, n], as `count` takes it.
    """
    counts, test = count(lost), line.test
    for policy in range(len(line.differs)):
        if line.sure[policy]:
            continue
        worse, better, unknown = counts.of(policy)
        if not _passes(test, worse + unknown, better):
            open_still = _passes(test, worse, better + unknown)
            return Standing(policy, "asking" if open_still else "failed")
    return Standing(len(line.differs), "passed")


def greatest(line: Line, lost: Floats) -> Floats:
    """The greatest p-value that its unknown labels allow of each policy that is tested, [p].

    Those behind the first that does not pass are not: theirs is 1.
    """
    counts, (rows, margin, error, differing) = count(lost), line.test
    reached = standing(line, lost).passed + 1
    worse, better = counts.worse + counts.unknown, counts.better
    found = np.ones(len(line.differs))
    if rows:
        tested = (worse[:reached], better[:reached], rows, margin)
        found[:reached] = paired_margin(*tested, differing=differing, delta=error)
    return np.where(line.sure, 0.0, found)


def steps(line: Line, lost: Floats) -> Iterator[Step]:
    """The next steps of the line, as they are expected to go, up to one expected to fail.

    A policy's differing rows are expected to fall as those of it that are labelled, and as its
    `guess`. Rows that most of the policies to come answer otherwise than the full tier come
    first: one label then serves them all.

    Args:
        lost: [p, n], as `count` takes it.
    """
    start = standing(line, lost)
    if start.end != "asking":
        return
    differs, counts, rows = line.differs, count(lost), line.differs.shape[1]
    lots = np.random.default_rng(line.seed).random(rows)
    promised = np.zeros(rows, dtype=np.bool_)  # rows of earlier steps
    for policy in range(start.passed, len(differs)):
        use = differs[policy:].sum(0) + lots
        free = np.flatnonzero(np.isnan(lost[policy]) & ~promised)
        free = free[np.argsort(-use[free], kind="stable")]
        before = int((differs[policy] & promised).sum())
        more, passes = _expected(line, counts, policy, before, len(free))
        promised[free[:more]] = True
        yield Step(policy, free[:more], passes)
        if not passes:
            return


def next_rows(line: Line, lost: Floats, batch: int) -> NDArray[np.int64]:
    """At most so many rows to label next, most decisive first; none where all is decided."""
    found: list[int] = []
    for step in steps(line, lost):
        found += step.rows.tolist()
        if len(found) >= batch:
            break
    return np.array(found[:batch], dtype=np.int64)


def labels_for(differs: Bools, lost: Floats, rows: int, margin: float, delta: float) -> int:
    """About how many labels decide a policy on so many unlabelled rows, going by these rows.

    Args:
        differs: [n] where the policy answers otherwise than the full tier.
        lost: [n] of `adaptive.policy.worth.lost`, NaN where it is not known.
        rows: how many there would be.
        margin: of P(worse) - P(better).
        delta: the error of the whole certificate.
    """
    known = differs & ~np.isnan(lost)
    shares = np.array([(lost[known] > 0).sum(), (lost[known] < 0).sum()]) / max(known.sum(), 1)
    free = round(float(differs.mean()) * rows)
    test = (rows, margin, error_of_tests(delta), free)
    return _deciding(test, (0, 0, free), shares, 0, free)[0]


@lru_cache(maxsize=4096)
def _limits(test: Test) -> list[float]:
    """The greatest score known to pass a test, and the least known to fail it."""
    return [-np.inf, np.inf]


def _passes(test: Test, worse: int, better: int) -> bool:
    """Whether the p-value of these counts is within the error.

    It never falls as their score rises, so of many counts few p-values have to be found.
    """
    (rows, margin, error, differing), limits = test, _limits(test)
    if not rows:
        return False
    seen = float(score(worse, better, rows, margin))
    if seen <= limits[0] or seen >= limits[1]:
        return seen <= limits[0]
    found = paired_margin(worse, better, rows, margin, differing=differing, delta=error)
    passes = bool(found <= error)
    limits[not passes] = seen
    return passes


def _expected(line: Line, counts: Counts, policy: int, before: int, free: int) -> tuple[int, bool]:
    """Labels that decide a policy of the line, and whether it then passes, as in `_deciding`."""
    if line.sure[policy]:
        return 0, True
    worse, better, unknown = counts.of(policy)
    known = int(line.differs[policy].sum()) - unknown
    shares = (np.array([worse, better]) + WEIGHT * line.guess[policy]) / (known + WEIGHT)
    return _deciding(line.test, (worse, better, unknown), shares, before, free)


def _deciding(
    test: Test, counts: tuple[int, int, int], shares: Floats, before: int, free: int
) -> tuple[int, bool]:
    """Labels that decide a test if they fall as expected, and whether it then passes.

    Args:
        counts: worse, better and unknown differing rows now.
        shares: of labels to come that are expected worse and better, [2].
        before: of the unknown, how many earlier steps will have labelled.
        free: how many are left beside those.
    """
    worse, better, unknown = counts

    def after(more: int) -> tuple[bool, bool]:
        """Whether it then passes for sure, and whether it still can."""
        lost, won = np.floor((before + more) * shares + 0.5).astype(int).tolist()
        lost, left = min(lost, before + more - won), unknown - before - more
        return (
            _passes(test, worse + lost + left, better + won),
            _passes(test, worse + lost, better + won + left),
        )

    low, high = 0, free
    while low < high:  # the first number of labels after which both agree
        middle = (low + high) // 2
        surely, possibly = after(middle)
        if surely or not possibly:
            high = middle
        else:
            low = middle + 1
    return low, after(low)[0]
