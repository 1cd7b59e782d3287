"""A report's figures: plain numbers and words, all of them look-ups in outcome tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adaptive
from adaptive.bundle.page import policy_line
from adaptive.policy.entries import forced, forced_entries
from adaptive.policy.lines import completed, moving
from adaptive.policy.lookup import Lookup, single_stage
from adaptive.policy.search import shared_thresholds
from adaptive.policy.targets import excess, loss, quality
from adaptive.reporting.breakdowns import (
    by_class,
    by_group,
    by_length,
    changed,
    reliabilities,
    score_diagram,
)
from adaptive.reporting.subject import Status, Subject, told_thresholds
from adaptive.types import Evaluation, OutcomeTable, Policy

STEPS = 120  # policies of the line that a slider goes along, at most, before the best are taken
LEVELS = 24  # of one threshold swept, of each of two ways to space them
MARGIN = 2.0  # standard errors to spare where a policy is chosen for a level


def figures_of(subject: Subject) -> dict[str, Any]:
    """Everything a report shows, as JSON: no arrays, no infinities.

    Returns:
        `points` on the plane of cost and quality by kind; `line`, the policies that a slider goes
        along, from safe to cheap, each with its flow of texts; breakdowns; words. Keys of the
        parts are told where they are made.
    """
    table, known = subject.table, subject.table.worth.known
    chosen = subject.lookup.evaluate(subject.policy)
    line = line_of(subject)
    names = [subject.tiers[t] for t in subject.answers]
    *_, full = subject.alone
    return {
        "version": adaptive.__version__,
        "name": subject.name,
        "item": subject.item,
        "rows": subject.rows,
        "texts": len(table),
        "unit": subject.lookup.unit,
        "quality": subject.quality if known else "agreement",
        "tiers": list(subject.tiers),
        "answering": names,
        "stages": [
            {"name": name, "tier": stage.tier, "depth": stage.depth}
            for name, stage in zip(subject.places, table.stages, strict=True)
        ],
        "full": {
            "name": full,
            "own": table.worth.own,
            "quality": _reference(table),
            "cost": float(subject.alone[full].cost.mean()),
        },
        "points": points_of(subject),
        "line": line,
        "chosen": next(i for i, each in enumerate(line) if each["chosen"]),
        "searched": None if subject.searched is None else len(subject.searched.table),
        "report": None if subject.figures is None else dict(subject.figures),
        "lengths": by_length(subject, chosen),
        "classes": by_class(subject, chosen),
        "groups": by_group(subject, chosen),
        "reliability": reliabilities(subject),
        "score": score_diagram(subject, chosen),
        "router": router_of(subject),
        "changed": changed(subject, chosen),
        "words": dict(subject.words),
    }


def measured(result: Evaluation, table: OutcomeTable) -> dict[str, Any]:
    """What a policy did: `cost`, `quality` of what is answered, `kept` and its error, `agreement`.

    `kept` is the quality as a share of the full tier's. `error` is the standard error of that,
    texts being paired, so that it is 0 where both always answer alike.
    """
    answered = result.answered
    good = result.score if table.worth.known else result.alike
    held = table.worth.reference if table.worth.known else np.ones(len(table))
    held = held.astype(np.float64)
    base = float(held.mean()) if len(held) else 0.0
    some = bool(answered.any())
    mean = float(good[answered].mean()) if some else 0.0
    lost = (held - good)[answered]
    return {
        "cost": float(result.cost.mean()),
        "quality": mean,
        "kept": mean / base if base else None,
        "error": float(lost.std() / np.sqrt(len(lost)) / base) if base and some else None,
        "agreement": float(result.alike[answered].mean()) if some else 0.0,
        "abstained": float(1.0 - answered.mean()),
    }


def points_of(subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """Every tier, exit and simple rule: a list of points with a `name` by kind.

    `probability`: every exit answers from one largest probability on. `threshold`: from one
    reliability on.
    """
    lookup, table = subject.lookup, subject.table
    found = {
        "tier": [{"name": n, **measured(each, table)} for n, each in subject.alone.items()],
        "exit": [
            {"name": subject.places[k], **measured(lookup.evaluate(alone), table)}
            for k, stage in enumerate(table.stages)
            if stage.tier in subject.answers
            for alone in (single_stage(table.stages, k),)
        ],
        "threshold": _swept(subject, lookup, "reliability from {:.4g}"),
        "probability": [],
    }
    if subject.top is not None:
        sure = replace(
            lookup, table=replace(lookup.table, reliability=np.asfortranarray(subject.top))
        )
        found["probability"] = _swept(subject, sure, "probability from {:.4g}")
    return found


def _swept(subject: Subject, lookup: Lookup, name: str) -> list[dict[str, Any]]:
    """One threshold on every exit, swept over quantiles of what it is compared with."""
    sure = lookup.table.reliability
    own = [k for k, stage in enumerate(lookup.table.stages) if stage.tier in subject.answers]
    first = np.quantile(sure[:, own[0]], np.linspace(0.0, 1.0, LEVELS))  # where most texts leave
    sharp = np.quantile(sure[:, own], 1.0 - np.geomspace(0.5, 1e-3, LEVELS))
    levels = np.unique(np.concatenate([first, sharp]))
    tried = []
    for level in levels.tolist():
        policy = shared_thresholds(lookup.table.stages, list(subject.answers), level)
        tried.append(
            {"name": name.format(level), **measured(lookup.evaluate(policy), subject.table)}
        )
    return tried


def line_of(subject: Subject) -> list[dict[str, Any]]:
    """The policies worth looking at, safe to cheap, the one that serves among them.

    A policy is there if it is the choice for some level: the cheapest that loses no more than it on
    the rows that policies were searched on, with `MARGIN` standard errors to spare. Those that a
    certificate is about are there too. What each did is told of the rows shown.

    Returns:
        Of each: `measured`, `level` (the least it is chosen for; None: for none), `status` of the
        certificate, `words`, `thresholds`, `entry` [m] and `answered` [m, k] in texts by the tier
        entered.
    """
    judged = subject.lookup if subject.searched is None else subject.searched
    statuses: dict[Policy, Status] = {each.policy: each.status for each in subject.listed}
    more = completed(judged, subject.policy)
    candidates = dict.fromkeys(
        [
            *statuses,
            subject.policy,
            *moving(judged, more, STEPS),
            *(single_stage(judged.table.stages, k) for k in _ends(subject)),
        ]
    )
    bounds = {policy: _bound(judged, policy) for policy in candidates}
    levels: dict[Policy, float] = {}
    cheapest = np.inf
    for policy, (bound, cost) in sorted(bounds.items(), key=lambda each: each[1]):
        if cost < cheapest and not np.isnan(bound):
            levels[policy], cheapest = max(bound, 0.0), cost
    proved = _spread([p for p, status in statuses.items() if status == "certified"])
    shown = {*levels, *proved, subject.policy}
    found = []
    for policy in sorted(shown, key=lambda p: -bounds[p][1]):
        result = subject.lookup.evaluate(policy)
        found.append(
            {
                **measured(result, subject.table),
                "chosen": policy == subject.policy,
                "level": levels.get(policy),
                "status": statuses.get(policy, "searched"),
                "words": policy_line(policy, subject.places),
                "thresholds": told_thresholds(policy),
                "path": list(policy.path),
                "routed": policy.risk_weight is not None,
                **_flow(result, subject),
            }
        )
    return found


def _bound(judged: Lookup, policy: Policy) -> tuple[float, float]:
    """What a policy may lose on these rows, errors included, and its mean cost."""
    result, table = judged.evaluate(policy), judged.table
    target = quality(table)
    lost = excess(target, result, table)
    share = max(float(result.answered.mean()), 1e-9)
    if target.metric != "agreement":
        share *= table.sampled.accuracy if table.sampled else float(table.worth.reference.mean())
    error = float(lost.std() / np.sqrt(max(len(table), 1)) / max(share, 1e-9))
    return loss(result, table) + MARGIN * error, float(result.cost.mean())


def _ends(subject: Subject) -> list[int]:
    """The last stage of each tier that may answer."""
    last = {stage.tier: k for k, stage in enumerate(subject.table.stages)}
    return [last[tier] for tier in subject.answers]


def _spread(policies: Sequence[Policy], most: int = 30) -> list[Policy]:
    places = np.linspace(0, len(policies) - 1, min(most, len(policies))).round().astype(int)
    return [policies[place] for place in places]


def _flow(result: Evaluation, subject: Subject) -> dict[str, Any]:
    """Texts by the tier that they entered, and of these by the stage that answered."""
    tiers, stages = len(subject.tiers), len(subject.places)
    place = result.entry.astype(np.int64) * stages + result.stage
    counts = np.bincount(place, minlength=tiers * stages).reshape(tiers, stages)
    return {"entry": counts.sum(1).tolist(), "answered": counts.tolist()}


def router_of(subject: Subject) -> dict[str, Any]:
    """The served policy with other ways to enter, its thresholds as they are.

    Returns:
        `rows`, each a point with a `name`; `words` of the build about the router.
    """
    lookup, policy = subject.lookup, subject.policy
    names = {
        "always_tiny": f"always at {subject.tiers[policy.path[0]]}",
        "always_full": f"always at {subject.tiers[policy.path[-1]]}",
        "by_length": "longer texts higher, in the same shares",
        "at_random": "at random, in the same shares",
        "oracle": "by an oracle: the cheapest tier that is good enough",
    }
    routed = policy.risk_weight is not None
    own = "by the router, as served" if routed else "as served, without a router"
    rows = [{"name": own, **measured(lookup.evaluate(policy), subject.table)}]
    if len(policy.path) > 1 and len(subject.table):
        for rule, entry in forced_entries(lookup, policy).items():
            if not routed and rule in ("always_tiny", "by_length", "at_random"):
                continue  # all of them are what is served
            free, entered = forced(lookup, policy, entry)
            rows.append({"name": names[rule], **measured(free.evaluate(entered), subject.table)})
    return {"rows": rows, "routed": routed, "words": subject.words.get("router", "")}


def _reference(table: OutcomeTable) -> float:
    """The full tier's own quality, in float32 in torch: what all is held to."""
    held: NDArray[np.float32] = table.worth.reference
    return float(held.mean(dtype=np.float64)) if table.worth.known else 1.0
