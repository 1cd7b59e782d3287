"""The slot table: what is known of each row that is in an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.transfer import put, put_all
from adaptive.engine.batching import Slots
from adaptive.exits.measures import History, Past, join
from adaptive.text.tokens import ranges
from adaptive.tiers.state import State
from adaptive.types import Tokens

# A slot's status. A row that is cancelled while its batch runs keeps its slot until that is back.
FREE, TAKEN, CANCELLED = range(3)
NO_DEADLINE = np.inf


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that stand before the same hop, and what the hops before it left of them."""

    slots: Slots  # [b]
    lengths: NDArray[np.int64]  # [b] tokens of each
    state: State | None = None  # None before a tier's first hop
    history: Past = None  # of the tier's last exit
    anchor: torch.Tensor | None = None  # [b, c] probabilities at the first stage, once read

    def __len__(self) -> int:
        return len(self.slots)

    def select(self, rows: NDArray[np.int64]) -> Batch:
        """The given ones, behind a hop; `rows` [b'] on the host, ascending where they are all."""
        if len(rows) == len(self.slots):
            return self
        state, history = self.state, self.history
        assert state is not None
        index, tokens = put_all([rows, state.layout.places(rows)], state.hidden.device)
        if isinstance(history, History):
            history = history.select(index)
        elif history is not None:
            history = history.index_select(0, index)
        anchor = None if self.anchor is None else self.anchor.index_select(0, index)
        return Batch(
            self.slots[rows], self.lengths[rows], state.select(rows, tokens), history, anchor
        )

    @staticmethod
    def join(parts: list[Batch]) -> Batch:
        """The rows of several batches behind the same hop."""
        if len(parts) == 1:
            return parts[0]
        anchors = [part.anchor for part in parts if part.anchor is not None]
        return Batch(
            np.concatenate([part.slots for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            State.join([part.state for part in parts if part.state is not None]),
            join([part.history for part in parts]),
            torch.cat(anchors) if len(anchors) == len(parts) else None,
        )


def _write(values: torch.Tensor, slots: Slots, rows: torch.Tensor) -> None:
    """Rows [b, c] into the lines `slots` [b] of a table on the device."""
    if len(slots) == 1:
        values[int(slots[0])] = rows[0]
    else:
        values.index_copy_(0, put(slots, rows.device), rows)


def slots_of(parts: Sequence[Batch]) -> Slots:
    """Those of all rows of some batches."""
    if len(parts) == 1:
        return parts[0].slots
    return np.concatenate([np.empty(0, np.int64), *(part.slots for part in parts)])


def lengths_of(parts: Sequence[Batch]) -> NDArray[np.int64]:
    """Tokens of all rows of some batches."""
    if len(parts) == 1:
        return parts[0].lengths
    return np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])


@dataclass(slots=True)
class SlotTable:
    """One slot a row: s slots, of which some are free. Only the methods here write.

    column      written by                     when
    ids, types  `add`                          a row is submitted
    start       `add`                          so, and where tokens are moved together
    length      `add`                          a row is submitted
    deadline    `add`                          a row is submitted
    order       `add`                          a row is submitted: the number of the submission
    statistics  `add`                          a row is submitted, under a policy that routes
    entry       `add`, `enter`                 a row is submitted; the router has decided
    anchor      `remember`                     the first stage has run
    last, summary, probabilities
                `keep`                         an exit was asked, and the row goes on
    status      `add`, `cancel`, `release`     a row is submitted; cancelled while its batch
                                               runs; answered, cancelled or in a batch that failed
    """

    ids: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # [t]
    types: NDArray[np.int8] | None = None  # [t] segment ids of pairs, where the model has them
    start: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [s] in ids
    length: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [s] tokens
    # [s] when the row's batch has to run, full or not, on the engine's clock
    deadline: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [s]
    entry: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # [s] tier
    status: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))  # [s]
    statistics: NDArray[np.float32] | None = None  # [s, S] what a router reads of the tokens
    anchor: torch.Tensor | None = None  # [s, c] probabilities at the first stage, on the device
    # of rows that went on: the stage that was asked last, -1 before any, and what it answered
    last: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # [s]
    summary: NDArray[np.float32] | None = None  # [s, 3] as of `ExitOutput.answer`
    probabilities: torch.Tensor | None = None  # [s, c] on the device
    live: int = 0  # slots that are not free
    cancelled: int = 0  # of these, cancelled ones
    timed: bool = False  # a row had a deadline
    used: int = 0  # of `ids`, free behind
    submissions: int = 0

    def add(
        self,
        tokens: Tokens,
        entry: int,
        deadline: float | NDArray[np.float64],
        statistics: NDArray[np.float32] | None,
    ) -> Slots:
        """Rows take free slots, the lowest there are: [r].

        Raises:
            ValueError: they have token types and those before had none, or the other way round.
        """
        if not len(tokens):
            return np.empty(0, np.int64)
        slots = self._free(len(tokens))
        self._store(tokens, slots)
        self.length[slots] = tokens.lengths
        self.deadline[slots] = deadline
        self.timed = self.timed or deadline is not NO_DEADLINE
        self.order[slots] = self.submissions
        self.entry[slots] = entry
        self.status[slots] = TAKEN
        self.last[slots] = -1
        if statistics is not None:
            if self.statistics is None:
                self.statistics = np.zeros((len(self.status), statistics.shape[1]), np.float32)
            self.statistics[slots] = statistics
        self.live += len(slots)
        self.submissions += 1
        return slots

    def cancel(self, slots: Slots) -> None:
        """The rows are not wanted any more, and their batches run."""
        self.status[slots] = CANCELLED
        self.cancelled += len(slots)

    def enter(self, slots: Slots, entry: NDArray[np.int32]) -> None:
        """The router has chosen the tiers [b] that the rows enter."""
        self.entry[slots] = entry

    def remember(self, slots: Slots, anchor: torch.Tensor) -> None:
        """Probabilities [b, c] at the first stage, for the tiers to come."""
        if self.anchor is None:
            self.anchor = anchor.new_empty(len(self.status), anchor.shape[1])
        _write(self.anchor, slots, anchor)

    def keep(
        self,
        slots: Slots,
        stage: int,
        summary: NDArray[np.float32],
        probabilities: torch.Tensor | None,
    ) -> None:
        """What a stage said of rows that go on, [b, 3] and [b, c], should there be no time."""
        if self.summary is None:
            self.summary = np.zeros((len(self.status), 3), np.float32)
        self.last[slots], self.summary[slots] = stage, summary
        if probabilities is not None:
            if self.probabilities is None:
                shape = (len(self.status), probabilities.shape[1])
                self.probabilities = probabilities.new_empty(shape)
            _write(self.probabilities, slots, probabilities)

    def release(self, slots: Slots) -> None:
        """The rows are done with; others may take their slots."""
        if self.cancelled:
            self.cancelled -= int((self.status[slots] == CANCELLED).sum())
        self.status[slots] = FREE
        self.live -= len(slots)

    def anchor_of(self, slots: Slots) -> torch.Tensor:
        """What `remember` kept of the rows, [b, c]."""
        assert self.anchor is not None
        return self.anchor.index_select(0, put(slots, self.anchor.device))

    def tokens_of(self, slots: Slots) -> tuple[NDArray[np.int32], NDArray[np.int8] | None]:
        """Ids and types [t] of the rows, one behind the other."""
        if len(slots) == 1:
            first = int(self.start[slots[0]])
            flat: Any = slice(first, first + int(self.length[slots[0]]))
        else:
            flat = ranges(self.start[slots], self.length[slots])
        return self.ids[flat], None if self.types is None else self.types[flat]

    def _free(self, count: int) -> Slots:
        """The lowest free slots, [count]; there are as many as are wanted."""
        if self.live + count > len(self.status):
            self._grow(max(self.live + count, 2 * len(self.status)))
        return np.flatnonzero(self.status == FREE)[:count]

    def _grow(self, size: int) -> None:
        more = size - len(self.status)

        def longer(column: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)])

        for name in ("start", "length", "deadline", "order", "entry", "status", "last"):
            setattr(self, name, longer(getattr(self, name)))
        for name in ("statistics", "summary"):
            column = getattr(self, name)
            if column is not None:
                setattr(self, name, longer(column))
        for name in ("anchor", "probabilities"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, torch.cat([values, values.new_empty(more, values.shape[1])]))

    def _store(self, tokens: Tokens, slots: Slots) -> None:
        """Tokens behind those that are there, which are moved together where room is short."""
        if not self.live:  # the caller's own arrays, which are not written to
            self.ids, self.types, self.used = tokens.ids, tokens.types, len(tokens.ids)
            self.start[slots] = tokens.offsets[:-1]
            return
        if (tokens.types is None) != (self.types is None):
            raise ValueError("some rows have token types and others none; all must or none")
        if self.used + len(tokens.ids) > len(self.ids):
            self._compact(len(tokens.ids))
        end = self.used + len(tokens.ids)
        self.ids[self.used : end] = tokens.ids
        if self.types is not None and tokens.types is not None:
            self.types[self.used : end] = tokens.types
        self.start[slots] = self.used + tokens.offsets[:-1]
        self.used = end

    def _compact(self, more: int) -> None:
        """Drop the tokens of rows that left; then as many as are kept, and `more`, fit behind."""
        kept = np.flatnonzero(self.status != FREE)
        ids, types = self.tokens_of(kept)
        room = len(ids) + more
        self.ids = np.concatenate([ids, np.zeros(room, np.int32)])
        self.types = None if types is None else np.concatenate([types, np.zeros(room, np.int8)])
        self.start[kept] = np.cumsum(self.length[kept]) - self.length[kept]
        self.used = len(ids)
