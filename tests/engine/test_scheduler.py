"""Which batch runs next, and which rows are in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptive.engine.batching import Limits, RowQueue
from adaptive.engine.rows import NO_DEADLINE, Batch, SlotTable
from adaptive.engine.scheduler import Scheduler
from adaptive.exits.measures import History
from adaptive.tiers.state import Packed, State
from adaptive.types import Tokens

LIMIT = 4  # rows of a batch
FIRST, DEEP, NEXT, DEEPEST = range(4)  # the hops of two tiers


class Waiting:
    """Rows of three tokens that are put before hops."""

    def __init__(self) -> None:
        self.table, self.limits = SlotTable(), Limits(LIMIT, 100)
        begins = [True, False, True, False]
        self.scheduler = Scheduler(begins, [8, LIMIT, LIMIT, LIMIT], self.table, self.limits)

    def put(self, hop: int, count: int, deadline: float = NO_DEADLINE) -> list[int]:
        offsets = np.arange(count + 1) * 3
        owner, cut = np.arange(count), np.zeros(count, np.bool_)
        tokens = Tokens(np.zeros(3 * count, np.int32), offsets, None, owner, cut)
        slots = self.table.add(tokens, 0, deadline, None)
        lengths = self.table.length[slots]
        if hop in (FIRST, NEXT):
            self.scheduler.enter(hop, slots)
        else:
            layout = Packed(lengths, torch.device("cpu"))
            state = State(torch.zeros(1, 3 * count, 2), layout)
            history = History.start(count, "cpu")
            self.scheduler.add(hop, [Batch(slots, lengths, state, history)])
        found: list[int] = slots.tolist()
        return found

    def next(self, *running: int, more: bool = True, now: float = 0.0) -> int | None:
        chosen = self.scheduler.choose(now, running, more=more)
        return None if chosen is None else chosen[0]


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_the_deepest_full_batch_is_first(waiting: Waiting) -> None:
    waiting.put(FIRST, 8)
    assert waiting.next() == FIRST
    waiting.put(NEXT, LIMIT)
    waiting.put(DEEPEST, LIMIT - 1)
    assert waiting.next() == waiting.next(more=False) == NEXT
    waiting.put(DEEPEST, 1)
    assert waiting.next() == waiting.next(more=False) == DEEPEST


def test_then_a_row_whose_deadline_has_come(waiting: Waiting) -> None:
    waiting.put(FIRST, 7)
    late = waiting.put(NEXT, 1, deadline=5.0)
    waiting.put(DEEP, 1, deadline=6.0)
    assert waiting.next(now=4.9) == FIRST
    assert waiting.scheduler.choose(5.0, [], more=True) == (NEXT, late[0])
    assert waiting.scheduler.choose(7.0, [FIRST], more=False) == (NEXT, late[0])


def test_then_the_fullest_unless_rows_of_a_batch_may_join(waiting: Waiting) -> None:
    waiting.put(FIRST, 2)
    waiting.put(DEEP, 3)
    waiting.put(DEEPEST, 3)
    assert waiting.next() == DEEPEST
    assert waiting.next(FIRST) is None


def test_the_rest_runs_from_front_to_back_where_nothing_more_comes(waiting: Waiting) -> None:
    assert waiting.next(more=False) is None
    waiting.put(DEEP, 1)
    waiting.put(NEXT, 3)
    assert waiting.next(more=False) == DEEP
    assert waiting.next(FIRST, more=False) is None  # its rows may come to stand here
    assert waiting.next(DEEP, more=False) == DEEP  # and those not


def test_the_row_that_is_due_is_in_the_batch_that_runs(waiting: Waiting) -> None:
    for _ in range(2):
        waiting.put(DEEP, 3)
    due = waiting.put(DEEP, 1, deadline=1.0)
    waiting.limits.batch_size = 3
    parts = waiting.scheduler.take(DEEP, due[0])
    assert [part.slots.tolist() for part in parts] == [due]
    waiting.limits.batch_size = 5
    waiting.scheduler.add(DEEP, parts)
    batch = waiting.scheduler.join(DEEP, waiting.scheduler.take(DEEP, due[0]))
    assert len(batch) == 4 and due[0] in batch.slots


def queue_of(lengths: list[int], order: list[int] | None = None, most: int = 3) -> RowQueue:
    queue = RowQueue(Limits(most, 20))
    given = None if order is None else np.array(order)
    queue.add(np.arange(len(lengths)), np.array(lengths), given)
    return queue


def test_rows_of_one_submission_leave_longest_first() -> None:
    queue = queue_of([2, 9, 4, 9, 1, 3, 6])
    taken = []
    while queue:
        taken.append(queue.take().tolist())
    assert taken == [[1, 3], [6, 2, 5], [0, 4]]


def test_the_oldest_row_is_in_the_next_batch_with_rows_alike_in_length() -> None:
    queue = queue_of([9, 8, 7, 5, 4, 3, 2], [1, 1, 1, 1, 0, 1, 1])
    assert queue.take().tolist() == [4, 5, 6]
    assert queue.take().tolist() == [0, 1]
    queue = queue_of([9, 8, 7, 5, 4, 3, 2], [1, 1, 1, 1, 1, 1, 0])
    assert queue.take().tolist() == [4, 5, 6]  # longer ones fill up the batch
    queue = queue_of([19, 8, 2], [1, 1, 0])
    assert queue.take().tolist() == [1, 2]  # within the tokens
    assert queue.take().tolist() == [0]


def test_a_queue_is_full_by_rows_or_by_tokens() -> None:
    assert not queue_of([]).full
    assert not queue_of([5, 5]).full and queue_of([5, 5, 1]).full
    assert queue_of([11, 1]).full
    queue = queue_of([5, 5, 1])
    queue.remove(np.array([2, 7]))
    assert not queue.full and queue.slots.tolist() == [0, 1] and queue.tokens == 10
