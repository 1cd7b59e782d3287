"""From answered token rows to the answers of a request's items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.answers import (
    Joined,
    Prices,
    applied,
    best_labels,
    join_windows,
    routings,
)
from adaptive.bundle.contents import Bundle
from adaptive.serve.jobs import ANSWERED, FAILED, LATE, TOO_LATE, WHY, Job
from adaptive.serve.pre import Prepared


@dataclass(frozen=True, slots=True)
class Replies:
    """What n items were answered."""

    bundle: Bundle
    joined: Joined
    shown: Joined  # with the scores that the caller asked for
    errors: dict[int, str]  # of items that have no answer
    late: NDArray[np.bool_]  # [n] answered unsure, since the deadline came
    degraded: NDArray[np.bool_]  # [n] a tier of the policy was missing
    full_cost: NDArray[np.float64]  # [n] what the full tier alone would have cost
    tokens: int  # read
    failed: bool  # some have no answer through no fault of their own
    expired: bool  # some have none since the deadline came first

    def __len__(self) -> int:
        return len(self.late)

    def labels(self, top_k: int | None) -> list[list[dict[str, Any]] | None]:
        """Of each item its best labels with their scores, best first; None where it has none."""
        found = best_labels(self.bundle, self.shown, self.joined, top_k)
        return [None if index in self.errors else own for index, own in enumerate(found)]

    def best(self, index: int) -> str | None:
        """An item's label; None where it is left unanswered."""
        if self.joined.abstained[index]:
            return None
        return self.bundle.labels[int(self.joined.label[index])]

    def beside(self) -> list[dict[str, Any]]:
        """What the task's answers hold besides: where several labels may be right, the chosen."""
        found = self.bundle.task.beside(self.joined.probabilities, self.bundle.labels)
        return [{} for _ in range(len(self))] if found is None else found

    def routing(self) -> list[dict[str, Any]]:
        """Who answered each item, why, and what it cost."""
        late, degraded = self.late.tolist(), self.degraded.tolist()
        return [
            {**own, "deadline_hit": late[index], "degraded": degraded[index]}
            for index, own in enumerate(routings(self.bundle, self.joined))
        ]


def replies(
    bundle: Bundle,
    prepared: Prepared,
    job: Job,
    prices: Prices,
    full: Prices,
    *,
    function: str | None,
) -> Replies:
    """Join windows, mark what is not covered, and tell why items have no answer.

    Args:
        prices: under the job's policy; whether it is covered here is already told.
        full: under the policy of the full tier alone.
        function: what is done to scores, see `Task.function`.
    """
    tokens, count = prepared.tokens, len(prepared)
    joined = join_windows(bundle, job.policy, prices, tokens, job.answers)
    errors = dict(prepared.faults)
    failed = expired = False
    late, degraded = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    if (job.state != ANSWERED).any() or job.degraded.any():  # seldom, and it takes a while
        for state in (FAILED, TOO_LATE):
            for index in np.unique(tokens.owner[job.state == state]).tolist():
                failed |= state == FAILED and index not in errors
                expired |= state == TOO_LATE and index not in errors
                errors.setdefault(index, WHY[state])
        late[tokens.owner[job.state == LATE]] = True
        degraded[tokens.owner[job.degraded]] = True
        joined = replace(joined, covered=joined.covered & ~late & ~degraded)
    last = len(bundle.stages) - 1
    tier = bundle.stages[last].tier
    whole = np.zeros(count)
    np.add.at(whole, tokens.owner, full.cost[tier, tokens.lengths, last])
    return Replies(
        bundle,
        joined,
        applied(joined, bundle.task.function(function)),
        errors,
        late,
        degraded,
        whole,
        int(tokens.lengths.sum()),
        failed,
        expired,
    )
