"""Rows that wait before the hops of all tiers, and which batch runs next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from adaptive.engine.batching import Limits, RowQueue, Slots
from adaptive.engine.rows import Batch, SlotTable, slots_of


class Size(NamedTuple):
    """Of a batch that waits."""

    rows: int
    tokens: int
    longest: int  # tokens of a row


@dataclass(slots=True)
class BatchQueue:
    """Batches that wait behind layers until there are enough rows for a full one.

    In a batch that has shrunk to a few rows, fixed costs outweigh the layers'. Behind layers
    fewer than two batches wait before a hop, behind embeddings as many more as the embeddings
    take at once, so memory stays bounded.
    """

    limits: Limits
    parts: list[Batch] = field(default_factory=list)  # the one that waits longest is the first
    sizes: list[Size] = field(default_factory=list)  # of each part

    def __len__(self) -> int:
        return sum(size.rows for size in self.sizes)

    @property
    def slots(self) -> Slots:
        """[q] those that wait."""
        return slots_of(self.parts)

    @property
    def full(self) -> bool:
        """Whether a full batch waits."""
        return self._enough() > 0

    def add(self, parts: list[Batch]) -> None:
        """Rows wait."""
        self._put(len(self.parts), parts)

    def take(self, slot: int | None = None) -> list[Batch]:
        """Enough parts for a full batch, or all; with a slot, its part and whatever fits beside."""
        if slot is None:
            count = self._enough() or len(self.parts)
        else:
            due = next(at for at, part in enumerate(self.parts) if slot in part.slots)
            self.parts.insert(0, self.parts.pop(due))
            self.sizes.insert(0, self.sizes.pop(due))
            count = max(1, self._fitting())
        taken = self.parts[:count]
        del self.parts[:count], self.sizes[:count]
        return taken

    def join(self, parts: list[Batch]) -> Batch:
        """Parts that were taken, as one batch; rows too many for it wait again, before others."""
        batch, *rest = self.cut(Batch.join(parts))
        self._put(0, rest)
        return batch

    def cut(self, batch: Batch) -> list[Batch]:
        """Rows as parts of one batch each."""
        if len(batch) == 1:
            return [batch]
        places = self.limits.cut(batch.lengths)
        return [batch] if len(places) < 2 else [batch.select(each) for each in places]

    def remove(self, slots: Slots) -> None:
        """These rows wait no longer, if they did."""
        left = []
        for part in self.parts:
            rest = np.flatnonzero(~np.isin(part.slots, slots))
            if len(rest):
                left.append(part.select(rest))
        self.give_up()
        self.add(left)

    def give_up(self) -> None:
        """No row waits any more."""
        self.parts, self.sizes = [], []

    def _put(self, at: int, parts: list[Batch]) -> None:
        self.parts[at:at] = parts
        self.sizes[at:at] = [
            Size(len(part), int(part.lengths.sum()), int(part.lengths.max())) for part in parts
        ]

    def _enough(self) -> int:
        """How many parts, from the first on, make a full batch; 0 where all of them do not."""
        rows = tokens = longest = 0
        for count, size in enumerate(self.sizes, 1):
            rows, tokens = rows + size.rows, tokens + size.tokens
            longest = max(longest, size.longest)
            if self.limits.full(rows, tokens, longest):
                return count
        return 0

    def _fitting(self) -> int:
        """How many parts, from the first on, make no more than a full batch."""
        rows = tokens = 0
        for count, size in enumerate(self.sizes):
            rows, tokens = rows + size.rows, tokens + size.tokens
            if rows > self.limits.batch_size or tokens > self.limits.budget:
                return count
        return len(self.sizes)


class Scheduler:
    """What waits before each hop: rows before a tier's first one, batches before the others."""

    def __init__(
        self, begins: Sequence[bool], most: Sequence[int], table: SlotTable, limits: Limits
    ) -> None:
        """Nothing waits.

        Args:
            begins: whether each hop is its tier's first.
            most: rows of a batch at each hop, at most; read of a tier's first.
        """
        self._table = table
        self.waiting: list[RowQueue | BatchQueue] = [
            RowQueue(limits, rows) if first else BatchQueue(limits)
            for first, rows in zip(begins, most, strict=True)
        ]
        self._backwards = range(len(begins) - 1, -1, -1)

    def choose(
        self, now: float, running: Sequence[int], *, more: bool
    ) -> tuple[int, int | None] | None:
        """The hop that runs next, and a row that its batch must hold; None to wait for a batch.

        Args:
            now: the time on the clock of the deadlines.
            running: hops of the batches that run, whose rows come back.
            more: rows may still be submitted.
        """
        for hop in self._backwards:  # the deepest full batch
            if self.waiting[hop].full:
                return hop, None
        held = [hop for hop, queue in enumerate(self.waiting) if len(queue)]
        if self._table.timed and (due := self._due(held, now)):
            return due
        if not more:  # from the front to the back, once no others can come there
            front = held[0] if held and held[0] <= min(running, default=held[0]) else None
            return None if front is None else (front, None)
        if running or not held:  # what comes back may fill up a batch
            return None
        return max(held, key=lambda hop: (len(self.waiting[hop]), hop)), None  # the fullest

    def _due(self, held: Sequence[int], now: float) -> tuple[int, int] | None:
        """The hop before which the row with the earliest deadline waits, if that has come."""
        found, earliest = None, now
        for hop in held:
            slots = self.waiting[hop].slots
            deadlines = self._table.deadline[slots]
            first = int(deadlines.argmin())
            if deadlines[first] <= earliest:
                found, earliest = (hop, int(slots[first])), deadlines[first]
        return found

    def enter(self, hop: int, slots: Slots) -> None:
        """Rows wait before a tier's first hop."""
        queue = self.waiting[hop]
        assert isinstance(queue, RowQueue)
        queue.add(slots, self._table.length[slots], self._table.order[slots])

    def take(self, hop: int, slot: int | None) -> list[Batch]:
        """The parts of a batch that is to run, the given row among them."""
        queue = self.waiting[hop]
        if isinstance(queue, BatchQueue):
            return queue.take(slot)
        slots = queue.take(slot)
        return [Batch(slots, self._table.length[slots])]

    def join(self, hop: int, parts: list[Batch]) -> Batch:
        """The parts as one batch; rows too many for it wait again."""
        queue = self.waiting[hop]
        return queue.join(parts) if isinstance(queue, BatchQueue) else parts[0]

    def cut(self, hop: int, batch: Batch) -> list[Batch]:
        """A batch as it may wait before a hop behind layers."""
        queue = self.waiting[hop]
        assert isinstance(queue, BatchQueue)
        return queue.cut(batch)

    def add(self, hop: int, parts: list[Batch]) -> None:
        """Batches wait before a hop behind layers."""
        queue = self.waiting[hop]
        assert isinstance(queue, BatchQueue)
        queue.add(parts)

    def remove(self, slots: Slots) -> None:
        """These rows wait no longer, wherever they did."""
        for queue in self.waiting:
            if len(queue):
                queue.remove(slots)

    def give_up_states(self) -> dict[int, Slots]:
        """By hop, the rows that waited behind layers; they do not wait any more."""
        found = {}
        for hop, queue in enumerate(self.waiting):
            if isinstance(queue, BatchQueue) and queue.parts:
                found[hop] = queue.slots
                queue.give_up()
        return found
