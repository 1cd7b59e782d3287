"""The front: the policies worth certifying, in the order in which they are tested.

It comes from the search rows alone, so it costs the certificate no confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from adaptive.policy.freedom import Floats, best_line
from adaptive.policy.lines import completed, moving
from adaptive.policy.lookup import Lookup, is_bare, tier_alone, useful_tiers
from adaptive.policy.search import Found, Judge, Score, search
from adaptive.policy.targets import about_costs, may_abstain, seeks_quality, several
from adaptive.types import Policy, Targets

FRONT = 200  # policies of a front at most
GAIN = 0.02  # share of the cost that a policy of the front saves over the one before it
HOPE = 3.0  # standard errors by which the search rows may wrong a policy at the cheap end
MARGIN = 2.0  # standard errors to spare where a line's policy is searched


def front(
    lookup: Lookup,
    target: Targets,
    found: Sequence[Found],
    *,
    sweeps: int,
    margin: float = MARGIN,
    drops: Sequence[Floats | None] | None = None,
    rows: int | None = None,
) -> list[Found]:
    """The policies worth certifying, safe to cheap: one policy, tightened and loosened as a whole.

    Its line is made in the way that promises the cheapest certificate (`adaptive.policy.freedom`),
    ends safely at the full tier, and is gone `along` as it is. Where a target is about costs, or
    texts may be left unanswered, the best of `found` is moved along its line; with promises about
    costs that is put in `order`.

    Args:
        lookup: outcome and cost tables of the search split, those of `found`.
        found: what `search` returned.
        sweeps: of the searches that a line needs.
        margin: standard errors to spare in them.
        drops: readings of the losses to search lines by; None: the look-up's own.
        rows: that will be certified on; None: about as many as these.
    """
    targets = several(target)
    base = found[0].policy
    if is_bare(base) and seeks_quality(targets):  # the full tier, where costs allow it
        base = next((f.policy for f in found if not is_bare(f.policy)), base)
    if is_bare(base):
        base = search(lookup, target, margin=0.0, sweeps=sweeps, routed=False)[0].policy
    abstains = may_abstain(targets)
    if about_costs(targets) or abstains or is_bare(base):
        whole = base if about_costs(targets) else completed(lookup, base)
        policies = [base, *moving(lookup, whole)]
    else:
        policies = best_line(
            lookup,
            target,
            base,
            (lookup.drop,) if drops is None else drops,
            margin=margin,
            sweeps=sweeps,
            rows=rows,
        )
    alone = [f.policy for f in found if is_bare(f.policy)]
    return arranged(lookup, target, [*alone, *policies])


def arranged(
    lookup: Lookup,
    target: Targets,
    policies: Iterable[Policy],
    scores: dict[Policy, Score] | None = None,
) -> list[Found]:
    """A line's policies `along` it, or in `order` where a target is about costs."""
    way = order if about_costs(several(target)) else along
    return way(lookup, target, policies, scores)


def along(
    lookup: Lookup,
    target: Targets,
    policies: Iterable[Policy],
    scores: dict[Policy, Score] | None = None,
) -> list[Found]:
    """A line's policies from dear to cheap, to the last that may well keep the target.

    The looser a policy of the line, the more it loses: that is known of the line, and hidden by
    the scatter of a few rows. Were one left out because it looked worse here than a cheaper one,
    the sequence of tests would have a hole, and end before it. So the line goes on behind the last
    that keeps the target on these rows, up to `HOPE` standard errors: what stands at the end of a
    sequence costs those before it nothing. The full tier alone comes first, if it keeps the
    target here. Another stage alone that does comes at the end, if it is cheaper than all of the
    line: among the line it would lose more than its neighbours, and end the sequence there.

    Args:
        lookup: outcome and cost tables of rows that will not be tested on.
        scores: of policies on this very table, where they are known already.
    """
    judge = Judge(lookup, target, 0.0, scores)
    kept = [judge.lead] if judge.lead.excess <= 0.0 or not judge.may_miss else []
    tried = [judge(policy) for policy in policies]
    line = [f for f in tried if not is_bare(f.policy)]
    _go_on(kept, sorted(line, key=lambda f: (-f.cost, f.excess)))
    last = max((place for place, f in enumerate(kept) if f.excess <= 0.0), default=0)
    if last:
        hopeful = Judge(lookup, target, -HOPE, judge.scores)
        last = max(place for place, f in enumerate(kept) if hopeful(f.policy).excess <= 0.0)
    kept = kept[: last + 1] or [judge.lead]
    alone = [f for f in tried if is_bare(f.policy) and f.excess <= 0.0]
    _go_on(kept, sorted(alone, key=lambda f: -f.cost))
    return _thinned(kept, [f for f in line if f.excess <= 0.0])


def _go_on(kept: list[Found], found: Iterable[Found]) -> None:
    """Those of the found, dear to cheap, that save enough over the one before."""
    for each in found:
        if not kept or each.cost <= (1.0 - GAIN) * kept[-1].cost:
            kept.append(each)


def order(
    lookup: Lookup,
    target: Targets,
    policies: Iterable[Policy],
    scores: dict[Policy, Score] | None = None,
) -> list[Found]:
    """The Pareto front of mean excess and mean cost, safe to cheap, of at most `FRONT` policies.

    Where costs are all that is promised it is one of mean cost and loss, cheap to good. Every
    useful tier alone is considered. What does not keep the target on these rows is left out: to
    test it would only end a sequence. But one is always first: the full tier alone, or the cheapest
    stage where costs are all that is promised, or, where the full tier is too dear for a promise
    that stands beside others or in int8 misses one, the safest policy there is.

    Args:
        lookup: outcome and cost tables of rows that will not be tested on.
        scores: of policies on this very table, where they are known already.
    """
    judge = Judge(lookup, target, 0.0, scores)
    alone = [judge(tier_alone(judge.stages, tier)) for tier in useful_tiers(lookup.table)]
    others = [f for f in [*alone, *map(judge, policies)] if f.excess <= 0.0]
    others.sort(key=lambda f: (f.excess, *f.rank))
    kept = others[:1] if judge.may_miss and judge.lead.excess > 0.0 and others else [judge.lead]
    for each in others:
        step = (1.0 - GAIN) * judge.aim(kept[-1])
        if each.rank < kept[-1].rank and judge.aim(each) <= step:
            kept.append(each)
    return _thinned(kept, others)


def _thinned(kept: list[Found], others: Sequence[Found]) -> list[Found]:
    """At most `FRONT` of them, with the very best of the others, though it may gain little."""
    best = min(others, key=lambda f: (*f.rank, f.excess), default=kept[-1])
    if best.rank < kept[-1].rank:
        kept = [*kept, best]
    places = np.linspace(0, len(kept) - 1, min(FRONT, len(kept))).round().astype(int)
    return [kept[place] for place in places]
