"""What the answers of a tier to held-out rows say is wrong with it, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.lookup import useful_tiers
from adaptive.policy.worth import scores_of
from adaptive.risk import binomial
from adaptive.types import OutcomeTable

CHANCE = 1e-3  # of so few right answers by guessing, below which they are told
WIDE = 0.2  # of the rows: what another order of the classes must be better by
BEHIND = 0.05  # of the rows, and three standard errors: what a cheaper tier must be better by
Answers = NDArray[np.int32]


def about_full(answers: Answers, labels: Answers, classes: int) -> list[str]:
    """Doubts about the full tier: worse than guessing, or its classes are in another order.

    Args:
        answers: [n] of its last exit.
        labels: [n], all known.
    """
    right = float((answers == labels).mean())
    table = np.zeros((classes, classes), dtype=np.int64)  # answer x label
    np.add.at(table, (answers, labels), 1)
    best = _best_order(table) / len(labels)
    told = f"the full tier gives the right label to {right:.2%} of {len(labels):,} held-out rows"
    if best >= 0.5 and best >= right + WIDE:
        return [
            f"{told}; with its classes in another order it would be {best:.2%}. The labels of the "
            "data and the classes of the checkpoint do not stand in the same order: name the "
            "classes in the checkpoint's config.json (id2label), or list the labels in its order "
            "with data.rename"
        ]
    if binomial(answers == labels, 1 / classes) < CHANCE:
        return [
            f"{told}, fewer than guessing would ({1 / classes:.2%}). Check that the labels mean "
            "what the checkpoint was trained on"
        ]
    return []


def about_order(full: float | None, cheaper: float | None, name: str, rows: int) -> list[str]:
    """Doubts about a full tier that a cheaper one is better than, by shares of right answers."""
    if full is None or cheaper is None:
        return []
    error = np.sqrt((full * (1 - full) + cheaper * (1 - cheaper)) / rows)
    if cheaper - full < max(BEHIND, 3 * error):
        return []
    return [
        f"the full tier gives the right label to {full:.2%} of {rows:,} held-out rows, and the "
        f"{name} tier that learnt from it to {cheaper:.2%}. A promise that is relative to the "
        "full tier is worth little here: check the labels, or train the full tier longer"
    ]


def about_useless(table: OutcomeTable, names: Sequence[str]) -> list[str]:
    """That a tier is left out of every path, since a cheaper one is better.

    Args:
        table: of the search rows.
        names: of its tiers.
    """
    useful = useful_tiers(table)
    known, score = table.sampled is not None or table.worth.known, scores_of(table)
    last = {s.tier: k for k, s in enumerate(table.stages)}
    right = {tier: float(score[:, k].mean(dtype=np.float64)) for tier, k in last.items()}
    what = "the right label" if known else "the full tier's answer"
    found = []
    for tier in sorted(set(last) - set(useful)):
        better = max((each for each in useful if each < tier), key=lambda each: right[each])
        own, other = f"{right[tier]:.2%}", f"{right[better]:.2%}"
        told = (
            f"the {names[tier]} tier's mean score on {len(table):,} search rows is {own}, and that "
            f"of the {names[better]} tier, which is cheaper, is {other}"
            if known and table.classes is None
            else f"the {names[tier]} tier gives {what} to {own} of {len(table):,} search rows, and "
            f"the {names[better]} tier, which is cheaper, to {other}"
        )
        found.append(
            f"{told}: it is left out of every path. Train it longer ({names[tier]}.epochs), cut "
            "less of it, or take it out of the recipe"
        )
    return found


def _best_order(table: NDArray[np.int64]) -> int:
    """Most right answers that any renaming of the classes gives."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())
