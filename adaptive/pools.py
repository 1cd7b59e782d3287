"""Rows on their way through a tier's hops, which wait for each other to fill batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.batching import Queue
from adaptive.exits.measures import History, Past, join
from adaptive.tiers.state import State
from adaptive.transfer import put_all

Rows = NDArray[np.int64]


@dataclass(slots=True)
class Live:
    """The rows of a batch that are still on their way, and what is known of them."""

    rows: Rows  # [b] numbers in the call
    state: State | None = None  # behind a hop, None before a tier's first one; the loop's
    history: Past = None  # of the tier's last exit; the loop's
    anchor: torch.Tensor | None = None  # [b, c] probabilities at the first stage, once read

    def select(self, stay: Rows) -> Live:
        """The given ones; `stay` [b'] on the host."""
        state, history = self.there, self.history
        index, tokens = put_all([stay, state.layout.places(stay)], state.hidden.device)
        if isinstance(history, History):
            history = history.select(index)
        elif history is not None:
            history = history.index_select(0, index)
        anchor = None if self.anchor is None else self.anchor.index_select(0, index)
        return Live(self.rows[stay], state.select(stay, tokens), history, anchor)

    @property
    def there(self) -> State:
        """The state, between two hops."""
        assert self.state is not None
        return self.state

    @staticmethod
    def join(parts: list[Live]) -> Live:
        """The rows of several batches that stand before the same segment."""
        if len(parts) == 1:
            return parts[0]
        anchors = [part.anchor for part in parts if part.anchor is not None]
        return Live(
            np.concatenate([part.rows for part in parts]),
            State.join([part.there for part in parts]),
            join([part.history for part in parts]),
            torch.cat(anchors) if len(anchors) == len(parts) else None,
        )


@dataclass(frozen=True, slots=True)
class Pools:
    """Rows of a tier that stand before a hop, until there are enough for a full batch.

    In a batch that has shrunk to a few rows, fixed costs outweigh the layers'. Behind layers fewer
    than two batches stand before a hop, behind embeddings one batch of the queue more, and those
    in flight, so memory stays bounded.
    """

    parked: list[list[Live]]  # by hop; before the first they stand in the queue
    queue: Queue

    def park(self, hop: int, parts: list[Live]) -> None:
        """Rows wait before a hop."""
        if parts:
            self.parked[hop] += parts

    def ready(self, more: bool) -> int | None:
        """The deepest hop with a full batch, else the first one with any rows; or None.

        Args:
            more: others may come yet, which a batch that is not full waits for.
        """
        held = [hop for hop, parts in enumerate(self.parked) if parts]
        full = [hop for hop in held if self.enough(hop)]
        if full:
            return full[-1]
        if self.queue:
            return 0
        return None if more else min(held, default=None)

    def enough(self, hop: int) -> int:
        """How many parts, from the first on, make a full batch; 0 where all of them do not."""
        rows = tokens = longest = 0
        for count, live in enumerate(self.parked[hop], 1):
            lengths = self.queue.lengths[live.rows]
            rows, tokens = rows + len(lengths), tokens + int(lengths.sum())
            longest = max(longest, int(lengths.max()))
            if self.queue.full(rows, tokens, longest):
                return count
        return 0

    def take(self, hop: int) -> list[Live]:
        """Enough parts for a full batch, or all that are parked there."""
        count = self.enough(hop) or len(self.parked[hop])
        parts = self.parked[hop][:count]
        del self.parked[hop][:count]
        return parts

    def batch(self, hop: int, parts: list[Live]) -> Live:
        """Parts as one batch; rows too many for it are parked again."""
        live, *rest = self.cut(Live.join(parts))
        self.parked[hop][:0] = rest
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
