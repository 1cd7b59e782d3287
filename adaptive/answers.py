"""From a cascade's raw answers to what a caller gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.policy.costs import CostTable
from adaptive.policy.lookup import abstains, is_bare, run_costs, spent
from adaptive.tasks.base import Function
from adaptive.types import Answers, Policy, Tokens

PROMISE = "mean"  # what a covered answer's promise is about: the mean over texts, not this text


@dataclass(frozen=True, slots=True)
class Prices:
    """What texts cost under one policy, looked up: a call would sum up the same again and again."""

    covered: bool  # the bundle's certificate covers the policy
    unit: str
    cost: NDArray[np.float64]  # [m, L, k] by tier entered, tokens and stage that answered

    @classmethod
    def of(cls, bundle: Bundle, policy: Policy, costs: CostTable) -> Prices:
        """Of rows of 0 to the bundle's `max_length` tokens."""
        stages = bundle.stages
        table = costs.at(np.arange(bundle.max_length + 1))
        run = run_costs(stages, table, bare=is_bare(policy))
        rows = len(table.router)
        cost = np.empty((len(bundle.tiers), rows, len(stages)))
        for tier, stage in np.ndindex(len(bundle.tiers), len(stages)):
            at, entry = np.full(rows, stage, np.int32), np.full(rows, tier, np.int32)
            cost[tier, :, stage] = spent(policy, stages, run, table, at, entry)
        covered = bundle.certificate is not None and bundle.certificate.covers(policy)
        return cls(covered, costs.unit, cost)


@dataclass(frozen=True, slots=True)
class Joined:
    """One answer a text, its windows joined."""

    label: NDArray[np.int32]  # [n] the one of the greatest score
    score: NDArray[np.float32]  # [n] that score
    probabilities: NDArray[np.float32] | None  # [n, c] scores, mean over the text's windows
    stage: NDArray[np.int32]  # [n] the deepest that a window needed
    entry: NDArray[np.int32]  # [n] the lowest tier that a window entered
    reliability: NDArray[np.float32]  # [n] the least of the windows'
    cost: NDArray[np.float64]  # [n] summed over windows
    unit: str
    covered: NDArray[np.bool_]  # [n] by the certificate; not where windows were joined
    abstained: NDArray[np.bool_]  # [n] nobody answers, as of one window at least
    windows: NDArray[np.int64]  # [n]
    truncated: NDArray[np.bool_]  # [n]


def join_windows(
    bundle: Bundle, policy: Policy, prices: Prices, tokens: Tokens, rows: Answers
) -> Joined:
    """Answers of token rows -> answers of texts; rows stand in the order of their texts."""
    cost = prices.cost[rows.entry, tokens.lengths, rows.stage]
    nobody = abstains(policy, bundle.stages, rows.stage, rows.reliability)
    windows = np.bincount(tokens.owner, minlength=len(tokens.truncated))
    if len(tokens) == len(windows):
        means, stage, entry = rows.probabilities, rows.stage, rows.entry
        label, score, reliability = rows.label, rows.score, rows.reliability
    else:
        starts = np.concatenate([[0], np.cumsum(windows)[:-1]])
        assert rows.probabilities is not None, "windows are joined by all their probabilities"
        sums = np.add.reduceat(rows.probabilities, starts, axis=0)
        means = (sums / windows[:, None]).astype(np.float32)
        label = means.argmax(1).astype(np.int32)
        score = means.max(1)
        stage = np.maximum.reduceat(rows.stage, starts)
        entry = np.minimum.reduceat(rows.entry, starts)
        reliability = np.minimum.reduceat(rows.reliability, starts)
        cost = np.add.reduceat(cost, starts)
        nobody = np.logical_or.reduceat(nobody, starts)
    return Joined(
        label,
        score,
        means,
        stage,
        entry,
        reliability,
        cost,
        prices.unit,
        prices.covered & (windows == 1),
        nobody,
        windows,
        tokens.truncated,
    )


def applied(joined: Joined, function: Function | None) -> Joined:
    """The same with a function of each score."""
    if function is None:
        return joined
    means = joined.probabilities
    return replace(
        joined,
        score=function(joined.score),
        probabilities=None if means is None else function(means),
    )


def answer_dicts(
    bundle: Bundle, shown: Joined, joined: Joined, top_k: int | None
) -> list[list[dict[str, Any]]]:
    """The dicts of transformers' text-classification pipeline, with `routing` beside.

    Args:
        shown: with the scores that are given.
        joined: with the scores that the cascade answered.

    Returns:
        For each text its `top_k` best labels (None: all), best first; they share one routing.
        A text that nobody answers has one entry, of label None with the best label's score.
    """
    return [
        [{**each, "routing": routing} for each in own]
        for own, routing in zip(
            best_labels(bundle, shown, joined, top_k), routings(bundle, joined), strict=True
        )
    ]


def best_labels(
    bundle: Bundle, shown: Joined, joined: Joined, top_k: int | None
) -> list[list[dict[str, Any]]]:
    """The same without `routing`."""
    count = len(bundle.labels) if top_k is None else min(top_k, len(bundle.labels))
    order: NDArray[np.integer[Any]]
    if count == 1:
        order, best = shown.label[:, None], shown.score[:, None]
    else:
        assert shown.probabilities is not None, "one label alone was asked for"
        order = np.argsort(-shown.probabilities, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(shown.probabilities, order, 1)
    return [
        [{"label": None, "score": scores[0]}]
        if abstained
        else [
            {"label": bundle.labels[label], "score": score}
            for label, score in zip(labels, scores, strict=True)
        ]
        for labels, scores, abstained in zip(
            order.tolist(), best.tolist(), joined.abstained.tolist(), strict=True
        )
    ]


def routings(bundle: Bundle, joined: Joined) -> list[dict[str, Any]]:
    """How each text was answered, [n]."""
    names = [tier.name for tier in bundle.tiers]
    places = [
        {"tier": names[stage.tier], "exit": stage.exit, "depth": stage.depth}
        for stage in bundle.stages
    ]
    columns = zip(
        joined.stage.tolist(),
        joined.entry.tolist(),
        joined.reliability.tolist(),
        joined.cost.tolist(),
        joined.covered.tolist(),
        joined.abstained.tolist(),
        joined.windows.tolist(),
        joined.truncated.tolist(),
        strict=True,
    )
    found = [
        {
            **places[stage],
            "entered": names[entry],
            "reliability": None if reliability != reliability else reliability,
            "cost": cost,
            "unit": joined.unit,
            "abstained": abstained,
            "windows": windows,
            "truncated": truncated,
            "covered": covered,
            "promise": PROMISE if covered else None,
        }
        for stage, entry, reliability, cost, covered, abstained, windows, truncated in columns
    ]
    beside = bundle.task.beside(joined.probabilities, bundle.labels)
    if beside is None:
        return found
    return [{**routing, **more} for routing, more in zip(found, beside, strict=True)]
