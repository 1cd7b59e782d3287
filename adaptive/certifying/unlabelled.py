"""A certificate from unlabelled rows: labels are asked only where they can decide something.

Every stage runs on the rows, the bundle's own search rows order the policies and bound the full
tier's accuracy, and then the line is walked (`adaptive.certificate.asking`, which proves why that
is valid). It is for a drop in accuracy against the full tier, over all texts; `agreement` needs no
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.certificate import asking
from adaptive.certificate.asking import Line, Standing
from adaptive.certificate.certify import at_levels, takes_unlabelled
from adaptive.certificate.promises import stricter
from adaptive.certifying.recertify import (
    counted_rows,
    distinct,
    ordered,
    refuse_known,
    row_seed,
    search_rows,
)
from adaptive.errors import TargetError
from adaptive.events import Listener, ignore
from adaptive.measure.recording import outcomes
from adaptive.measure.timing import costs_here
from adaptive.policy.costs import CostTable
from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.policy.targets import several
from adaptive.policy.worth import lost as lost_by
from adaptive.policy.worth import reclassified
from adaptive.text import tokens as token_rows
from adaptive.text.row_hashes import unseen
from adaptive.types import (
    Evaluation,
    OutcomeTable,
    Policy,
    Target,
    Targets,
    Tokens,
    confidence_fault,
)

Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What the full tier's accuracy is bounded by: labelled rows that are not tested on."""

    right: int  # rows it has right
    rows: int
    source: str = "search rows"

    def bound(self, delta: float) -> float:
        """What it is at least, see `adaptive.certificate.asking.accuracy_bound`."""
        return asking.accuracy_bound(self.right, self.rows, delta)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that is fixed before a label is seen."""

    bundle: Bundle
    rows: NDArray[np.int64]  # [n] places of the rows among the texts given: repeats count once
    table: OutcomeTable  # [n] what every stage answers to them, labels unknown
    costs: CostTable
    targets: tuple[Target, ...]  # [l] one a level, each a promise of its own
    fronts: tuple[tuple[Policy, ...], ...]  # [l] the policies in the order of their tests
    prices: tuple[tuple[float, ...], ...]  # [l] mean cost of each on these rows
    lines: tuple[Line, ...]  # [l]
    answering: tuple[NDArray[np.int32], ...]  # [l] the stage [p, n] that answers under each policy
    accuracy: Accuracy
    tokens: Tokens  # [n]
    seed: int
    looks: int  # planned, each tested at delta over so many
    count_repeats: bool
    used: int | None  # rows left out, since the build had used them; None: it did not keep which
    pairs: bool | None  # whether the rows are of pairs of texts

    def __len__(self) -> int:
        return len(self.table)

    def lost(self, number: int, labels: Labels) -> NDArray[np.float64]:
        """What a level's policies lose on each row, [p, n], as `adaptive.certificate.asking.count`
        takes it.

        Args:
            labels: [n], positions in the bundle's labels; -1 where unknown.
        """
        worth = reclassified(self.table, labels=labels).worth
        score = worth.score[np.arange(len(labels)), self.answering[number]].astype(np.float64)
        return np.where(self.lines[number].differs, worth.reference - score, 0.0)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one more policy is expected to take and to give."""

    labels: int  # more than those before it take
    passes: bool  # whether it is expected to pass its test
    saves: float  # share of the cost of the cheapest policy certified so far


def plan(
    bundle: Bundle,
    tokens: Tokens,
    target: Targets,
    *,
    levels: Sequence[float] = (),
    seed: int = 0,
    looks: int = 1,
    count_repeats: bool = False,
    batch_size: int = 32,
    pairs: bool | None = None,
    on_event: Listener = ignore,
    accuracy: Accuracy | None = None,
    recorded: tuple[CostTable, OutcomeTable] | None = None,
) -> Plan:
    """Run every stage on unlabelled rows, and fix what is to be tested on them.

    Args:
        bundle: on the device and in the dtype to certify it for, with its search rows.
        tokens: one row a text; they must have served for nothing else, and how many there are
            must not depend on labels.
        target: one `accuracy_drop` without a group.
        levels: further ones, each a promise of its own; see
            `adaptive.certificate.certify.with_levels`.
        seed: of the order among rows of equal use.
        looks, count_repeats, pairs: as `adaptive.certifying.recertify.recertify` takes them.
        batch_size: rows at once, where costs are measured and rows recorded.
        accuracy: of a random sample of such texts, by `sampled`; None takes the search rows, which
            must then be of the same source as these.
        recorded: `costs` and `table` of an earlier plan of the same texts: nothing runs again.

    Raises:
        BundleError: the bundle has no search rows.
        TargetError: another task than one class a text; another target; search rows without
            labels; no rows, or rows that the bundle knows already.
    """
    if not bundle.task.exclusive:
        raise TargetError(
            f"labels are asked for where answers are one class each; of a {bundle.task.name} "
            "bundle certify labelled texts"
        )
    promises = [own[0] for own in _promises(target, levels)]
    if fault := confidence_fault(promises[0].confidence):
        raise TargetError(fault)
    known = search_rows(bundle)
    accuracy = accuracy or _searched(known)
    if not len(tokens):
        raise TargetError("there are no rows to certify on")
    rows, used = counted_rows(bundle, tokens, count_repeats=count_repeats)
    tokens = token_rows.select(tokens, rows)
    unknown = np.full(len(rows), -1, dtype=np.int32)
    if recorded is None:
        costs = costs_here(bundle, batch_size, on_event)
        recorded = costs, outcomes(bundle, tokens, unknown, batch_size, on_event)
    costs, table = recorded
    if used is None:
        refuse_known(table, reclassified(known, labels=np.full_like(known.labels, -1)))
    lookups = [Lookup.of(each, costs.of(each)) for each in (known, table)]
    found = ordered(bundle, lookups[0], [(each,) for each in promises], costs)
    fronts = [[each.policy for each in line] for line in found]
    results = [[lookups[1].evaluate(policy) for policy in front] for front in fronts]
    lines = tuple(
        _line(
            stricter(each, looks),
            table,
            front,
            own,
            _guess(lookups[0], front),
            accuracy,
            row_seed(seed),
        )
        for each, front, own in zip(promises, fronts, results, strict=True)
    )
    return Plan(
        bundle,
        rows,
        table,
        costs,
        tuple(promises),
        tuple(tuple(front) for front in fronts),
        tuple(tuple(float(result.cost.mean()) for result in own) for own in results),
        lines,
        tuple(np.stack([result.stage for result in own]) for own in results),
        accuracy,
        tokens,
        seed,
        looks,
        count_repeats,
        used,
        pairs,
    )


def sampled(
    bundle: Bundle,
    sample: Tokens,
    labels: Labels,
    pool: Tokens,
    batch_size: int = 32,
    on_event: Listener = ignore,
) -> Accuracy:
    """The full tier's accuracy on a small random sample of texts like the pool's, not among them.

    Args:
        sample: one row a text.
        labels: [n] of these, all known.
        pool: the rows to be tested on.

    Raises:
        TargetError: a row is one of the pool's, or has no label: the bound has to come from rows
            that are drawn by themselves.
    """
    if not len(sample) or (labels < 0).any():
        raise TargetError("the sample that the full tier's accuracy is read from needs labels")
    both = token_rows.concatenate([pool, sample])
    if len(distinct(both)) < len(distinct(pool)) + len(sample):
        raise TargetError(
            "the sample that the full tier's accuracy is read from repeats a text, or has one that "
            "is to be tested on; draw it apart from the pool"
        )
    if bundle.seen is not None and len(unseen(sample, bundle.seen)) < len(sample):
        raise TargetError(
            "the sample that the full tier's accuracy is read from has rows that the build used; "
            "draw it apart from them"
        )
    table = outcomes(bundle, sample, labels, batch_size, on_event)
    right = int((table.reference == labels).sum())
    return Accuracy(right, len(labels), "sampled rows")


def next_rows(made: Plan, labels: Labels, batch: int) -> NDArray[np.int64]:
    """At most so many rows to label next, most decisive first; none where nothing is open.

    Args:
        labels: [n] of the plan's rows, positions in the bundle's labels; -1 where unknown.
    """
    for number, line in enumerate(made.lines):
        rows = asking.next_rows(line, made.lost(number, labels), batch)
        if len(rows):
            return rows
    return np.zeros(0, dtype=np.int64)


def standings(made: Plan, labels: Labels) -> list[Standing]:
    """How far each level has come."""
    lines = enumerate(made.lines)
    return [asking.standing(line, made.lost(number, labels)) for number, line in lines]


def outlook(made: Plan, labels: Labels, most: int = 5) -> list[Outlook]:
    """What the next steps of the first level that is open are expected to take and to give."""
    for number, (line, prices) in enumerate(zip(made.lines, made.prices, strict=True)):
        lost = made.lost(number, labels)
        start = asking.standing(line, lost)
        if start.end != "asking":
            continue
        served = min(prices[: start.passed], default=max(prices))
        found = []
        for step, _ in zip(asking.steps(line, lost), range(most), strict=False):
            saved = 1.0 - prices[step.policy] / served if served else 0.0
            found.append(Outlook(len(step.rows), step.passes, saved))
        return found
    return []


def _promises(target: Targets, levels: Sequence[float]) -> list[tuple[Target, ...]]:
    try:
        targets = several(target)
    except ValueError as error:
        raise TargetError(str(error)) from None
    found = ", ".join(
        each.metric + (f" in each {each.group}" * bool(each.group)) for each in targets
    )
    if not takes_unlabelled(targets):
        raise TargetError(
            f"unlabelled rows serve one promise of accuracy_drop over all texts, found {found}; "
            "agreement and costs need no labels at all, other promises need every label"
        )
    return [targets, *at_levels(targets, levels)]


def _searched(known: OutcomeTable) -> Accuracy:
    if known.sampled is not None:
        return Accuracy(known.sampled.right, known.sampled.texts, "sampled rows")
    scores = known.worth.reference[~np.isnan(known.worth.reference)]
    if not len(scores):
        raise TargetError(
            "the bundle's search rows have no labels, so that nothing bounds the full tier's "
            "accuracy, of which the drop is a share; give a labelled sample, or use agreement, "
            "which needs no labels"
        )
    return Accuracy(int(scores.sum(dtype=np.float64)), len(scores))


def _guess(searched: Lookup, front: Sequence[Policy]) -> NDArray[np.float64]:
    """How each policy's differing rows fall on the search rows: shares worse and better, [p, 2]."""
    table, found = searched.table, []
    for policy in front:
        result = searched.evaluate(policy)
        less = lost_by(result, table.worth)
        differs = ((result.alike != 1.0) & ~np.isnan(less)).sum()
        counts = np.array([(less > 0).sum(), (less < 0).sum()])
        found.append((counts + 1) / (differs + 3))
    return np.array(found)


def _line(
    target: Target,
    table: OutcomeTable,
    front: Sequence[Policy],
    results: Sequence[Evaluation],
    guess: NDArray[np.float64],
    accuracy: Accuracy,
    seed: int,
) -> Line:
    delta = 1.0 - target.confidence
    full = tier_alone(table.stages, table.stages[-1].tier)
    return Line(
        differs=np.stack([result.alike != 1.0 for result in results]),
        margin=target.level * accuracy.bound(delta),
        error=asking.error_of_tests(delta),
        sure=np.array([table.worth.own and policy == full for policy in front]),
        guess=guess,
        seed=seed,
    )
