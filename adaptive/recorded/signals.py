"""What is known of an answer once it is there, as numbers.

Which fields are read of a model is fixed on the rows that fit: those that most of them have. Every
signal is optional; one that is missing later counts as its mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from adaptive.recorded.outcomes import NUMBERS, Outcomes

Floats = NDArray[np.float64]
Scorer = Callable[[str, str], float]
SHARE = 0.5  # of the rows must have a field for it to be read
KINDS = 12  # different answers, such as letters of a choice, that are told apart
COMMON = 0.9  # of the answers must be one of these, or they are not
LONGEST = 24  # letters of a value that is told apart: what is longer is somebody's text
_SIZES = ("tokens_in", "tokens_out", "characters", "cost", "milliseconds")


@dataclass(frozen=True, slots=True)
class Signals:
    """How one model's answers become numbers."""

    model: str
    numbers: tuple[str, ...]  # fields that are read
    means: tuple[float, ...]  # of each, what stands in where it is missing
    reasons: tuple[str, ...]  # finish reasons that are told apart
    answers: tuple[str, ...]  # answers that are

    def __call__(self, outcomes: Outcomes) -> Floats:
        """Features, [n, w]."""
        place = outcomes.models.index(self.model)
        columns: list[Floats] = []
        for name, mean in zip(self.numbers, self.means, strict=True):
            values = _read(outcomes, name, place)
            columns.append(np.where(np.isnan(values), mean, values))
        for field, known in (("finish_reason", self.reasons), ("answer", self.answers)):
            if known:
                found = outcomes.words.get(field)
                own = np.full(len(outcomes), None) if found is None else found[:, place]
                columns += [np.array([each == name for each in own], float) for name in known]
        return np.stack(columns, 1) if columns else np.zeros((len(outcomes), 0))

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def fit_signals(outcomes: Outcomes, model: str) -> Signals:
    """Which fields of a model are read, going by these rows."""
    place = outcomes.models.index(model)
    numbers, means = [], []
    for name in NUMBERS:
        values = _read(outcomes, name, place)
        known = ~np.isnan(values)
        if name in outcomes.numbers and known.mean() >= SHARE and np.ptp(values[known]) > 0.0:
            numbers.append(name)
            means.append(float(values[known].mean()))
    reasons = _common(outcomes, "finish_reason", place)
    answers = _common(outcomes, "answer", place)
    return Signals(model, tuple(numbers), tuple(means), reasons, answers)


def _read(outcomes: Outcomes, name: str, place: int) -> Floats:
    if name not in outcomes.numbers:
        return np.full(len(outcomes), np.nan)
    values = outcomes.numbers[name][:, place]
    return np.log1p(values) if name in _SIZES else values


def _common(outcomes: Outcomes, field: str, place: int) -> tuple[str, ...]:
    """The field's values, if there are few and more than one."""
    if field not in outcomes.words:
        return ()
    values = outcomes.words[field][:, place]
    counts = Counter(each for each in values if each is not None and len(each) <= LONGEST)
    kept = [name for name, _ in counts.most_common(KINDS)]
    enough = sum(counts[name] for name in kept) >= COMMON * max(len(outcomes), 1)
    return tuple(sorted(kept)) if enough and len(counts) > 1 else ()


def agreements(outcomes: Outcomes, model: str, earlier: Sequence[str], scorer: Scorer) -> Floats:
    """Likeness of a model's answer to those of models that answered before it, [n, earlier].

    0 where either is missing.
    """
    found = np.zeros((len(outcomes), len(earlier)))
    if "answer" not in outcomes.words:
        return found
    answers = outcomes.words["answer"]
    own = answers[:, outcomes.models.index(model)]
    for column, name in enumerate(earlier):
        other = answers[:, outcomes.models.index(name)]
        for row, (a, b) in enumerate(zip(own, other, strict=True)):
            found[row, column] = scorer(a, b) if a is not None and b is not None else 0.0
    return found
