"""Outcome tables of classifiers: what classes are worth; and how tables are joined.

Everything that decides or tests reads a table's worth and nothing else, so another kind of answer
needs nothing but a way of its own to score answers. `graded` checks such scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive.types import Classes, Evaluation, Groups, OutcomeTable, Stage, Worth

Floats = NDArray[np.float64]
_JOINED = ("reliability", "risk", "tokens")


def worth_of(classes: Classes) -> Worth:
    """What classes are worth: 1 where they are the label's, alike where the reference's."""
    predictions, labels, reference = classes.predictions, classes.labels, classes.reference
    score = (predictions == labels[:, None]).astype(np.float32)
    right = (reference == labels).astype(np.float32)
    unknown = labels < 0
    score[unknown], right[unknown] = np.nan, np.nan
    alike = (predictions == reference[:, None]).astype(np.float32)
    return Worth(score, alike, right, exact=True, own=classes.in_float32 is None)


def classified(
    stages: tuple[Stage, ...],
    predictions: NDArray[np.int32],
    reliability: NDArray[np.float32],
    risk: NDArray[np.float32],
    labels: NDArray[np.int32],
    tokens: NDArray[np.int64],
    groups: Mapping[str, Groups] | None = None,
    in_float32: NDArray[np.int32] | None = None,
) -> OutcomeTable:
    """The outcome table of a classifier; the fields are those of `OutcomeTable` and `Classes`."""
    classes = Classes(predictions, labels, in_float32)
    worth = worth_of(classes)
    return OutcomeTable(stages, worth, reliability, risk, tokens, dict(groups or {}), classes)


def reclassified(table: OutcomeTable, **changes: Any) -> OutcomeTable:
    """The table with other predictions, labels or `in_float32`, and what these are worth."""
    if table.classes is None:
        raise ValueError("this outcome table holds no classes, only what answers are worth")
    classes = replace(table.classes, **changes)
    return replace(table, classes=classes, worth=worth_of(classes))


def graded(
    score: ArrayLike, alike: ArrayLike | None = None, reference: ArrayLike | None = None
) -> Worth:
    """What graded answers are worth, in the order of the stages, the full one last.

    Args:
        score: [n, k] in [0, 1]; NaN in every stage of a row where it is not known.
        alike: [n, k] sameness with the reference, in [0, 1]. None: 1 - the distance of the scores,
            which is the most that is known of answers of which only the scores were kept.
        reference: [n] scores that all others are held to. None: the last stage's own.

    Raises:
        ValueError: shapes that do not go together, a value outside [0, 1], a row of which some
            scores are known and others are not, or no `alike` where scores are not known.
    """
    scores = np.asarray(score, dtype=np.float32)
    if scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(f"scores must be [texts, stages], found {list(scores.shape)}")
    own = reference is None
    held = scores[:, -1] if reference is None else np.asarray(reference, dtype=np.float32)
    if held.shape != scores.shape[:1]:
        raise ValueError(f"found {list(held.shape)} reference scores for {len(scores)} texts")
    unknown = np.isnan(np.column_stack([scores, held]))
    if (unknown.any(1) != unknown.all(1)).any():
        row = int(np.flatnonzero(unknown.any(1) != unknown.all(1))[0])
        raise ValueError(f"text {row}: some of its scores are known and others are not")
    if alike is None and unknown.any():
        raise ValueError("texts without scores need their sameness with the reference, `alike`")
    same = 1.0 - np.abs(scores - held[:, None]) if alike is None else alike
    same = np.asarray(same, dtype=np.float32)
    if same.shape != scores.shape:
        raise ValueError(f"`alike` must be {list(scores.shape)}, found {list(same.shape)}")
    known = ~unknown.any(1)
    values = np.concatenate([scores[known].ravel(), held[known], same.ravel()])
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("scores and `alike` must lie in [0, 1]")
    exact = bool(((values == 0.0) | (values == 1.0)).all())
    return Worth(scores, same, held, exact, own)


def with_own_reference(worth: Worth) -> Worth:
    """That of the same answers, the last stage's being the reference's, whose place they take."""
    score, alike = worth.score.copy(), worth.alike.copy()
    score[:, -1], alike[:, -1] = worth.reference, 1.0
    return replace(worth, score=score, alike=alike, own=True)


def as_good(worth: Worth) -> NDArray[np.bool_]:
    """Whether each answer is as good as the reference: like it, or scored no lower, [n, k].

    Where a score is not known in some row, likeness alone tells.
    """
    good: NDArray[np.bool_] = worth.alike == 1.0
    return good | (worth.score >= worth.reference[:, None]) if worth.known else good


def worse_of(table: OutcomeTable) -> NDArray[np.bool_]:
    """Whether each tier's last answer is worse than the reference, [n, m]."""
    last = {s.tier: k for k, s in enumerate(table.stages)}
    return ~as_good(table.worth)[:, list(last.values())]


def lost(result: Evaluation, worth: Worth) -> Floats:
    """How much lower than the reference a policy's answers score, [n]; below 0 where higher.

    An answer like the reference's loses nothing, whatever the label, and one that is not given
    neither. NaN where that depends on a score that is not known.
    """
    found = worth.reference - result.score
    same = (result.alike == 1.0) & worth.exact
    return np.where(result.answered & ~same, found, 0.0)


def lost_at_most(result: Evaluation, worth: Worth) -> Floats:
    """What a policy's answers may have lost, [n]: all of it where no score says less.

    An answer unlike the reference's counts as lost where its score is not known.
    """
    known = lost(result, worth)
    return np.where(np.isnan(known), 1.0 - result.alike, known)


def scores_of(table: OutcomeTable) -> NDArray[np.float32]:
    """Scores [n, k] where all are known, or those that decide were asked for; else likeness.

    Likeness to the reference stands in for scores that nothing was asked about.
    """
    worth = table.worth
    if worth.known:
        return worth.score
    if table.sampled is None:
        return worth.alike
    return np.where(np.isnan(worth.score), worth.alike, worth.score)


def concatenate(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    """One table of several with the same stages, and without groups."""
    first = tables[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables]) for name in _JOINED
    }
    return replace(
        first,
        **columns,
        groups={},
        worth=replace(
            _join([table.worth for table in tables]),
            exact=all(table.worth.exact for table in tables),
        ),
        classes=None if first.classes is None else _join([table.classes for table in tables]),
        usage=None if first.usage is None else _join([table.usage for table in tables]),
    )


def _join(parts: Sequence[Any]) -> Any:
    """The arrays of frozen values one behind the other; what is no array is the first's."""
    first = parts[0]
    names = [f.name for f in fields(first) if isinstance(getattr(first, f.name), np.ndarray)]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(first, **arrays)
