"""A request's token rows while they are in the loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.text import tokens as token_rows
from adaptive.types import Answers, Policy, Tokens

# What becomes of a row. A late one has the best answer that there was when its time was up.
PENDING, ANSWERED, LATE, TOO_LATE, FAILED = range(5)
WHY = {TOO_LATE: "its deadline came before any answer", FAILED: "the model failed on this item"}


class Job:
    """Rows that are answered together. Once handed over, the loop's thread alone writes.

    Attributes:
        tokens: r rows.
        policy: what decides, as long as all its tiers are in order.
        deadline: on the loop's clock.
        cost: expected milliseconds of each row at most, [r].
        patient: whether it waits until nothing else is to do.
        state: [r] what became of each row.
        degraded: [r] whether a row was answered without a tier that its policy has.
    """

    def __init__(
        self,
        tokens: Tokens,
        policy: Policy,
        classes: int,
        *,
        deadline: float = math.inf,
        cost: NDArray[np.float64] | None = None,
        patient: bool = False,
    ) -> None:
        rows = len(tokens)
        self.tokens, self.policy = tokens, policy
        self.deadline, self.patient = deadline, patient
        self.cost = np.zeros(rows) if cost is None else cost
        self.state = np.zeros(rows, np.int8)
        self.degraded = np.zeros(rows, np.bool_)
        self.left = rows
        self.cancelled = self.delivered = False
        self.allowed = math.inf  # seconds from its beginning to its deadline
        self.result: Any = None  # for the request that waits
        self._answers = Answers(
            label=np.zeros(rows, np.int32),
            score=np.zeros(rows, np.float32),
            probabilities=np.zeros((rows, classes), np.float32),
            stage=np.full(rows, _last_stage(policy), np.int32),
            entry=np.full(rows, policy.path[0], np.int32),
            reliability=np.full(rows, np.nan, np.float32),
        )

    @property
    def answers(self) -> Answers:
        """Of all rows, in order; of those that have none, zeros."""
        return self._answers

    def write(self, rows: Sequence[int], answers: Answers, places: Sequence[int]) -> None:
        """The answers at these places are those of these rows."""
        own = self._answers
        for name in ("label", "score", "stage", "entry", "reliability"):
            getattr(own, name)[rows] = getattr(answers, name)[places]
        assert own.probabilities is not None and answers.probabilities is not None
        own.probabilities[rows] = answers.probabilities[places]

    def settle(self, rows: Sequence[int], state: int, *, degraded: bool = False) -> None:
        """Nothing more comes of these rows."""
        self.state[rows], self.degraded[rows] = state, degraded
        self.left -= len(rows)


Row = tuple[Job, int]  # a row of a job


def by_job(rows: Sequence[Row]) -> dict[Job, list[tuple[int, int]]]:
    """The rows of each job, each with its place among all of them."""
    found: dict[Job, list[tuple[int, int]]] = {}
    for at, (job, row) in enumerate(rows):
        found.setdefault(job, []).append((row, at))
    return found


def select_rows(tokens: Tokens, rows: Sequence[int]) -> Tokens:
    """The given rows, each as a text of its own."""
    own = Tokens(
        tokens.ids,
        tokens.offsets,
        tokens.types,
        np.arange(len(tokens), dtype=np.int64),
        np.zeros(len(tokens), np.bool_),
    )
    return token_rows.select(own, np.asarray(rows, np.int64))


def _last_stage(policy: Policy) -> int:
    return max(stage for stage in range(len(policy.thresholds)) if policy.on(stage))
