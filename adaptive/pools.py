"""Rows on their way through a tier's segments, which wait for each other to fill batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.batching import Queue
from adaptive.exits.measures import History
from adaptive.tiers.state import State
from adaptive.transfer import put

Rows = NDArray[np.int64]


@dataclass(slots=True)
class Live:
    """The rows of a batch that are still on their way, and what is known of them."""

    rows: Rows  # [b] numbers in the call
    state: State  # the loop's
    history: History  # the loop's
    anchor: torch.Tensor  # [b, c] probabilities at the first stage
    log_length: torch.Tensor  # [b]

    def select(self, stay: Rows) -> Live:
        """The given ones; `stay` [b'] on the host."""
        index = put(stay, self.log_length.device)
        return Live(
            self.rows[stay],
            self.state.select(stay),
            self.history.select(index),
            self.anchor.index_select(0, index),
            self.log_length.index_select(0, index),
        )

    @staticmethod
    def join(parts: list[Live]) -> Live:
        """The rows of several batches that stand before the same segment."""
        if len(parts) == 1:
            return parts[0]
        return Live(
            np.concatenate([part.rows for part in parts]),
            State.join([part.state for part in parts]),
            History.join([part.history for part in parts]),
            torch.cat([part.anchor for part in parts]),
            torch.cat([part.log_length for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Pools:
    """Rows of a tier that stand before a segment, until there are enough for a full batch.

    In a batch that has shrunk to a few rows, fixed costs outweigh the layers'. Behind layers fewer
    than two batches stand before a segment, behind embeddings one batch of the queue more, so
    memory stays bounded.
    """

    parked: list[list[Live]]  # by segment; before the first they stand in the queue
    queue: Queue

    def park(self, segment: int, parts: list[Live]) -> None:
        """Rows wait before a segment."""
        if parts:
            self.parked[segment] += parts

    def ends(self, segment: int) -> bool:
        """Whether it is the last one: behind it rows are done with the tier."""
        return segment == len(self.parked) - 1

    def ready(self) -> int | None:
        """The deepest segment with a full batch, else the first one with any rows; or None."""
        held = [segment for segment, parts in enumerate(self.parked) if parts]
        full = [segment for segment in held if self.enough(segment)]
        if full:
            return full[-1]
        return 0 if self.queue else min(held, default=None)

    def enough(self, segment: int) -> int:
        """How many parts, from the first on, make a full batch; 0 where all of them do not."""
        rows = tokens = longest = 0
        for count, live in enumerate(self.parked[segment], 1):
            lengths = self.queue.lengths[live.rows]
            rows, tokens = rows + len(lengths), tokens + int(lengths.sum())
            longest = max(longest, int(lengths.max()))
            if self.queue.full(rows, tokens, longest):
                return count
        return 0

    def take(self, segment: int) -> list[Live]:
        """Enough parts for a full batch, or all that are parked there."""
        count = self.enough(segment) or len(self.parked[segment])
        parts = self.parked[segment][:count]
        del self.parked[segment][:count]
        return parts

    def batch(self, segment: int, parts: list[Live]) -> Live:
        """Parts as one batch; rows too many for it are parked again."""
        live, *rest = self.cut(Live.join(parts))
        self.parked[segment][:0] = rest
        return live

    def cut(self, live: Live) -> list[Live]:
        """Rows as parts of one batch each."""
        if len(live.rows) == 1:
            return [live]
        places = self.queue.cut(live.rows)
        return [live] * len(places) if len(places) < 2 else [live.select(each) for each in places]

    def give_up(self) -> Rows:
        """Nobody is parked any more; the rows that were."""
        rows = rows_of([live for parts in self.parked for live in parts])
        self.parked[:] = [[] for _ in self.parked]
        return rows


def rows_of(parts: list[Live]) -> Rows:
    """Numbers of all rows of some parts."""
    return np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
