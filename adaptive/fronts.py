"""The front: the policies worth certifying, in the order in which they are tested.

It comes from the search rows alone, so it costs the certificate no confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from adaptive.policy import Lookup, is_bare, last_exits, tier_alone, useful_tiers
from adaptive.search import Found, Judge, Score, search
from adaptive.targets import about_costs, seeks_quality, several
from adaptive.types import ALWAYS, Policy, Targets

FRONT = 50  # policies of a front at most
GAIN = 0.02  # share of the cost that a policy of the front saves over the one before it
LINE = (0.98, -1.0)  # a front's ends, see `moved`
STEPS = 200  # of the line: many, since most of what is saved lies in the last of them
HOPE = 1.0  # standard errors by which the search rows may wrong a policy at the cheap end


def front(lookup: Lookup, target: Targets, found: Sequence[Found], *, sweeps: int) -> list[Found]:
    """The policies worth certifying, safe to cheap: one policy, tightened and loosened as a whole.

    The best of `found` is moved along a single line, all its thresholds together, from where
    hardly a text leaves early to where far more do. Neighbours on the line answer almost all
    texts alike, so their p-values rise together, and a sequence of tests seldom ends at one that
    is unlucky by itself; policies that differ in their exits fail independently of each other.
    The line is `completed`, so that its safe end is the full tier, and gone `along` as it is;
    with promises about costs it is put in `order`.

    Args:
        lookup: outcome and cost tables of the search split, those of `found`.
        found: what `search` returned.
        sweeps: for a search without margin, where the best of `found` lets none leave early.
    """
    base = found[0].policy
    if is_bare(base) and seeks_quality(several(target)):  # the full tier, where costs allow it
        base = next((f.policy for f in found if not is_bare(f.policy)), base)
    if is_bare(base):
        base = search(lookup, target, margin=0.0, sweeps=sweeps, routed=False)[0].policy
    whole = base if about_costs(several(target)) else completed(lookup, base)
    line = [base, *(moved(lookup, whole, share) for share in np.linspace(*LINE, STEPS))]
    alone = [f.policy for f in found if is_bare(f.policy)]
    return arranged(lookup, target, [*alone, *line])


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
    target here; other stages alone are considered if they do, and if nothing of the line is both
    safer and cheaper: among policies of their cost they would end the sequence.

    Args:
        lookup: outcome and cost tables of rows that will not be tested on.
        scores: of policies on this very table, where they are known already.
    """
    judge = Judge(lookup, target, 0.0, scores)
    kept = [judge.lead] if judge.lead.excess <= 0.0 or not judge.may_miss else []
    tried = [judge(policy) for policy in policies]
    line = [f for f in tried if not is_bare(f.policy)]
    line += [
        f
        for f in tried
        if is_bare(f.policy)
        and f.excess <= 0.0
        and not any(g.cost <= f.cost and g.excess <= f.excess for g in line)
    ]
    for each in sorted(line, key=lambda f: (-f.cost, f.excess)):
        if not kept or each.cost <= (1.0 - GAIN) * kept[-1].cost:
            kept.append(each)
    last = max((place for place, f in enumerate(kept) if f.excess <= 0.0), default=0)
    if last:
        hopeful = Judge(lookup, target, -HOPE, judge.scores)
        last = max(place for place, f in enumerate(kept) if hopeful(f.policy).excess <= 0.0)
    return _thinned(kept[: last + 1] or [judge.lead], [f for f in line if f.excess <= 0.0])


def completed(lookup: Lookup, policy: Policy) -> Policy:
    """The policy with the full tier's last exit behind its own last, which lets all texts pass.

    It answers like the policy, and as soon as thresholds are tightened it falls back on the full
    tier. Else the line of a policy that ends before would never come near it. One that abstains is
    left as it is: who is handed to nobody is decided at its own last exit.
    """
    stages = lookup.table.stages
    if policy.on(len(stages) - 1) or policy.abstain != ALWAYS:
        return policy
    last = last_exits(policy, stages)[policy.path[-1]]
    thresholds = [*policy.thresholds[:-1], 0.0]
    thresholds[last] = float(lookup.table.reliability[:, last].min())
    path = tuple(sorted({*policy.path, stages[-1].tier}))
    return replace(policy, path=path, thresholds=tuple(thresholds))


def moved(lookup: Lookup, policy: Policy, share: float) -> Policy:
    """The policy with all its thresholds moved by a share of the texts each of them holds back.

    At 1 a threshold lets nobody pass that the rows show; at 0 it stays where it is; below, the
    share of texts under it shrinks: where q are held back, 1 - (1 - q)(1 - share) are.
    """
    thresholds = list(policy.thresholds)
    for stage, threshold in enumerate(thresholds):
        if np.isfinite(threshold):
            scores = lookup.table.reliability[:, stage]
            held = 1.0 - float((scores >= threshold).mean()) * (1.0 - share)
            thresholds[stage] = float(np.quantile(scores, held)) if held > 0.0 else ALWAYS
    return replace(policy, thresholds=tuple(thresholds))


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
