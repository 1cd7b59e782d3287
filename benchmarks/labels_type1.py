"""Wrong certificates where labels are asked for: policies on the boundary, the worst labels first.

The second of three policies loses just what the level allows. Labels are asked of those rows first
that speak for the policies, and the bound on the full tier's accuracy is drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import certificate_errors
import numpy as np
from numpy.typing import NDArray

from adaptive.certificate import asking
from adaptive.certificate.asking import Line

DELTA = 0.05
Labels = NDArray[np.int32]


def counted(draws: int, rows: int = 400, other: int = 300) -> Iterator[list[dict[str, Any]]]:
    """The count, told every hundred draws.

    Args:
        rows: unlabelled ones that are certified on.
        other: labelled ones, which bound the full tier's accuracy.
    """
    accuracy, level = 0.9, 0.05
    told = f"a policy at the level, {rows} rows, accuracy bounded from {other} others"
    wrong = labels_asked = 0
    for draw in range(draws):
        rng = np.random.default_rng([8, draw])
        line, answers, reference, labels = boundary(rng, rows, other, accuracy, level)
        known = np.full(rows, -1, dtype=np.int32)
        won = (answers == labels) & line.differs
        order = np.argsort(~won.any(0), kind="stable")  # what speaks for a policy comes first
        for few in np.array_split(order[line.differs.any(0)[order]], 8):
            known[few] = labels[few]
            here = asking.standing(line, lost(answers, reference, known))
            if here.passed > 1 or here.end != "asking":
                break
        wrong += here.passed > 1
        labels_asked += int((known >= 0).sum())
        if not (draw + 1) % 100:
            asked = round(labels_asked / (draw + 1), 1)
            count = certificate_errors.line(told, draw + 1, wrong)
            yield [{"data": "type1", "pool": rows, "labels": asked, "time_ratio": None} | count]


def lost(answers: Labels, reference: Labels, labels: Labels) -> NDArray[np.float64]:
    """What each policy loses on each row, [p, n], NaN where it depends on an unknown label, -1."""
    found = np.where(labels < 0, np.nan, (labels == reference) * 1.0 - (labels == answers))
    return np.where(answers != reference, found, 0.0)


def boundary(
    rng: np.random.Generator, rows: int, other: int, accuracy: float, level: float
) -> tuple[Line, Labels, Labels, Labels]:
    """A line whose first policy loses half of what the level allows, its second just that, its
    third more; the answers [p, n] behind it, the full tier's and the labels."""
    better = 0.02
    worse = better + accuracy * level
    kind = rng.choice(3, rows, p=[worse, better, 1.0 - worse - better])
    labels = np.zeros(rows, dtype=np.int32)
    both = (accuracy - worse) / (1.0 - worse - better)  # of the rows that do not differ
    full_right = (kind == 0) | ((kind == 2) & (rng.random(rows) < both))
    reference = np.where(full_right, 0, 1).astype(np.int32)
    differing = np.where(kind == 0, 2, 0).astype(np.int32)
    ease = rng.random(rows)
    at = np.where(kind < 2, differing, reference)
    within = np.where((kind < 2) & (ease < 0.5), differing, reference)
    beyond = np.where((kind == 2) & full_right & (ease < 0.01), 2, at)
    answers = np.stack([within, at, beyond])
    bound = asking.accuracy_bound(int(rng.binomial(other, accuracy)), other, DELTA)
    error = asking.error_of_tests(DELTA)
    none = np.zeros(3, dtype=np.bool_)
    line = Line(answers != reference, level * bound, error, none, np.full((3, 2), 0.4))
    return line, answers, reference, labels
