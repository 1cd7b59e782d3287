"""The certificate: which policies of a front keep their targets, proved on rows never used before.

Every target claims that a mean of bounded values does not exceed zero
(`adaptive.policy.targets.excess`), over all texts or in each group of a column. So each policy of
the front has one p-value for "it breaks a claim", the greatest of the claims'
(`adaptive.certificate.claims`). They are tested in the front's order, safe to cheap, each at the
whole of delta, up to the first that fails (fixed-sequence testing). With probability 1 - delta over
the certification rows, *all* policies before that one keep *all* targets in *all* groups; any of
them may be served, and the cheapest of them is. Where costs are all that is promised, the last is:
on the search rows it loses least against the full tier. What it may lose is then bounded besides
(`adaptive.certificate.claims.bound_loss`), for whichever is served.

The front, its order and the tests must be fixed before the rows are looked at, and the rows must
have served for nothing else. Then neither a bad router nor a bad exit can break the promise:
they can only make its policies dear.

References:
    Angelopoulos, Bates, Candès, Jordan, Lei (2022), Learn then Test, arXiv:2110.01052.
    Laufer-Goldshtein, Fisch, Barzilay, Jaakkola (2023), efficiently controlling multiple risks
        with Pareto Testing, ICLR, arXiv:2210.07913: the order is a Pareto front's.
    Berger (1982), intersection-union tests: the greatest p-value, see `adaptive.risk.worst`.
    For the tests themselves see `adaptive.risk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptive.certificate.asking import labels_for
from adaptive.certificate.assumptions import ALWAYS_ASSUMED, assumed, population
from adaptive.certificate.claims import MeanTest, Trial, bound_loss, shares, try_target
from adaptive.certificate.promises import Certificate, Conditions, Tested, Verdict, stricter
from adaptive.errors import TargetError
from adaptive.policy.costs import Costs
from adaptive.policy.lookup import Lookup, dearest, is_bare, tier_alone
from adaptive.policy.metrics import metric_of
from adaptive.policy.targets import check_unit, full_may_miss, seeks_quality, several
from adaptive.policy.worth import lost
from adaptive.risk import fixed_sequence, worst
from adaptive.types import OutcomeTable, Policy, Target, Targets


def takes_unlabelled(targets: Sequence[Target]) -> bool:
    """Whether labels need be asked only where answers differ: of one drop, over all texts."""
    return [(metric_of(each).kind, each.group) for each in targets] == [("drop", None)]


def certify(
    front: Sequence[Policy],
    table: OutcomeTable,
    costs: Costs,
    target: Targets,
    seed: int,
    conditions: Conditions,
    *,
    test: MeanTest = "paired",
    accuracy: float = 1.0,
    expected: int | None = None,
    looks: int = 1,
) -> Certificate:
    """Test a front on certification rows and choose the policy to serve.

    Losses of 0 and 1 (`agreement`, `accuracy`, `text_cost`) have the exact binomial test, the
    signed drop the exact test of pairs, budgets the betting test. Drop and budgets may also have
    the betting test, or Hoeffding and Bentkus', both.

    The verdict is DO NOT ROUTE where the policy to serve is one stage for all texts and nothing
    better was there to be tested, or where a stage other than the front's first is certified by
    itself; NOT CERTIFIED where the front failed at its beginning.

    Args:
        front: safe to cheap, or to good where costs are all that is promised, as
            `adaptive.policy.fronts.front` orders it on other rows. The full tier alone comes first
            unless a target is about costs or it is served in int8, since it keeps all others that
            are relative to it.
        table: outcomes of the certification rows, with the columns that targets name.
        target: one, or several that must hold together.
        seed: of the rows' order in the betting test, fixed before the rows are looked at.
        test: of the signed drop and of budgets.
        accuracy: of the full tier on other rows, such as the search's; see `adaptive.risk.paired`.
        expected: the place in the front where other rows expect the sequence to stop; None: its
            end. A bound on what is lost is sharpest there. Like `accuracy` it is a guess fixed
            before the rows are seen, and the promise holds whatever it is.
        looks: so many designs are planned to be tested on these rows; each is tested at delta over
            their number.

    Raises:
        TargetError: a target needs labels or groups and the rows have none, or is about costs in
            another unit than the table's.
        ValueError: the front is empty, or does not begin with the full tier alone; or the
            targets are promised at different confidences.
    """
    full, targets = tier_alone(table.stages, table.stages[-1].tier), several(target)
    if not front or (front[0] != full and not full_may_miss(targets, table)):
        raise ValueError("a front begins with the full tier alone")
    check_unit(targets, costs.unit)
    lookup = Lookup.of(table, costs.of(table))
    results = [lookup.evaluate(policy) for policy in front]
    ceilings = _ceilings(front, table, costs, targets, conditions.max_length)
    for policy, (result, most) in enumerate(zip(results, ceilings.tolist(), strict=True)):
        if result.cost.max(initial=0.0) > most:
            raise TargetError(
                f"policy {policy} cost a text {result.cost.max():.6g} {costs.unit}, more than the "
                f"{most:.6g} that bound it: a text was longer than {conditions.max_length} tokens"
            )
    strict = [stricter(each, looks) for each in targets]
    try:
        trials = [
            try_target(each, front, results, ceilings, table, seed, test, accuracy)
            for each in strict
        ]
    except ValueError as error:
        raise TargetError(str(error)) from None
    prices = [float(result.cost.mean()) if len(table) else 0.0 for result in results]
    p_values = np.concatenate([trial.p_values for trial in trials])  # [c, p]
    means = np.concatenate([trial.means for trial in trials])
    last = fixed_sequence(worst(p_values), 1.0 - strict[0].confidence)
    certified = 0 if last is None else last + 1
    good = seeks_quality(targets)
    served = max(certified - 1, 0) if good else int(np.argmin(prices[: max(certified, 1)]))
    verdict, obstacle, needed = verdict_of(front, served, certified), None, None
    if verdict == "NOT CERTIFIED":
        obstacle, needed = _shortage(trials, certified)
    labels = None
    if needed is not None and table.worth.exact and takes_unlabelled(targets):
        result, delta = results[certified], 1.0 - strict[0].confidence
        margin = targets[0].level * float(table.worth.reference.mean(dtype=np.float64))
        differs = result.alike != 1.0
        labels = labels_for(differs, lost(result, table.worth), needed, margin, delta)
    kept = None
    if good and len(table):
        confidence = strict[0].confidence
        stop = len(front) - 1 if expected is None else expected
        share = float(shares(len(front), stop)[served])
        kept = bound_loss(
            front[served], results[served], table, confidence, share, seed, test, accuracy
        )
        if looks > 1:
            kept = replace(kept, confidence=targets[0].confidence)
    columns = zip(front, prices, means.T.tolist(), p_values.T.tolist(), strict=True)
    return Certificate(
        targets=targets,
        claims=tuple(
            replace(claim, target=target)
            for trial, target in zip(trials, targets, strict=True)
            for claim in trial.claims
        ),
        verdict=verdict,
        obstacle=obstacle,
        rows_needed=needed,
        policy=front[served],
        certified=certified,
        front=tuple(Tested(p, cost, tuple(x), tuple(own)) for p, cost, x, own in columns),
        n=len(table),
        seeds={"rows": seed},
        unit=costs.unit,
        conditions=conditions,
        assumptions=(
            *ALWAYS_ASSUMED,
            *population(conditions.repeats),
            *assumed(targets, kept, otherwise=not table.worth.own),
        ),
        quality=kept,
        labels_needed=labels,
        planned=looks,
    )


def _ceilings(
    front: Sequence[Policy],
    table: OutcomeTable,
    costs: Costs,
    targets: Sequence[Target],
    longest: int,
) -> NDArray[np.float64]:
    """What a text can cost at most under each policy, [p]; infinite where nothing tells."""
    most = costs.most(longest)
    if most is not None:
        return dearest(front, table.stages, most)
    for target in targets:
        if metric_of(target).budget:
            raise TargetError(
                f"the target {target.metric!r} bounds a mean cost, and nothing bounds what one "
                "text can cost, so that no number of rows would prove it; name the most that an "
                "answer may take (of prices `max_tokens` of every stage, of recorded costs `cap`)"
            )
    return np.full(len(front), np.inf)


def with_levels(certificate: Certificate, further: Sequence[Certificate]) -> Certificate:
    """A certificate with those of other levels, tested on the same rows."""
    if not further:
        return certificate
    promises, delta = 1 + len(further), certificate.delta
    told = (
        f"Each of the {promises} levels is a promise of its own at this confidence, for whoever "
        "chooses the level whatever the tests say. That all of them hold together, or that the one "
        "holds which was chosen for having passed, has a confidence of "
        f"{max(0.0, 1.0 - promises * delta):.4g} only."
    )
    return assuming(replace(certificate, further=tuple(further)), told)


def assuming(certificate: Certificate, told: str) -> Certificate:
    """A certificate, and those of its further levels, with one assumption more."""
    assumptions = (*certificate.assumptions, told)
    return replace(
        certificate,
        assumptions=assumptions,
        further=tuple(replace(each, assumptions=assumptions) for each in certificate.further),
    )


def at_levels(targets: Sequence[Target], levels: Sequence[float]) -> list[tuple[Target, ...]]:
    """The targets with the first one's level changed to each of these."""
    return [(replace(targets[0], level=level), *targets[1:]) for level in levels]


def verdict_of(front: Sequence[Policy], served: int, certified: int) -> Verdict:
    """The verdict on a front of which so many are certified and one is served."""
    if certified and not is_bare(front[served]):
        return "CERTIFIED"
    untested = len(front) > certified
    return "NOT CERTIFIED" if served == 0 and untested else "DO NOT ROUTE"


def _shortage(trials: Sequence[Trial], policy: int) -> tuple[int, int | None]:
    """Of the claims that the policy failed the one most short of rows, and how many it needs.

    A claim that no number of rows would prove comes before all others.
    """
    found: tuple[int, int | None] = (0, None)
    worst_yet, start = -1.0, 0
    for trial in trials:
        for index, claim in enumerate(trial.claims):
            if trial.p_values[index, policy] > 1.0 - claim.target.confidence:
                needed = trial.rows_needed(policy, index)
                short = np.inf if needed is None else needed / max(claim.n, 1)
                if short > worst_yet:
                    worst_yet, found = short, (start + index, needed)
        start += len(trial.claims)
    return found
