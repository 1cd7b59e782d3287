"""Threads that run sessions of ONNX Runtime side by side."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adaptive.tiers.sessions import side_by_side


@pytest.mark.parametrize("threads", [1, 2, 3, 10])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_results_come_in_the_order_of_the_items(threads: int, count: int) -> None:
    items = list(range(count))
    assert side_by_side(lambda x: x * x, items, threads) == [x * x for x in items]


def test_so_many_items_run_at_a_time() -> None:
    """Each waits until the others have begun; one behind the other, they would wait for ever."""
    together = threading.Barrier(3, timeout=30)
    found = side_by_side(lambda _: (together.wait(), threading.get_ident())[1], [0, 1, 2], 3)
    assert len(set(found)) == 3
    assert threading.get_ident() in found


@pytest.mark.parametrize("faulty", [0, 1, 4])
def test_an_error_is_raised_when_all_have_ended(faulty: int) -> None:
    ended: list[int] = []
    begun = threading.Barrier(2, timeout=30)

    def work(item: int) -> None:
        if item < 2:
            begun.wait()
        if item == faulty:
            raise ValueError(f"item {item}")
        ended.append(item)

    with pytest.raises(ValueError, match=f"item {faulty}"):
        side_by_side(work, list(range(6)), 2)
    assert set(ended) >= {item for item in range(6) if item % 2 != faulty % 2}


def test_several_callers_share_the_threads() -> None:
    with ThreadPoolExecutor(8) as callers:
        found = callers.map(lambda x: side_by_side(lambda y: x + y, [1, 2, 3, 4], 2), range(50))
    assert list(found) == [[x + 1, x + 2, x + 3, x + 4] for x in range(50)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked off here")
def test_a_process_that_is_forked_off_starts_threads_of_its_own() -> None:
    side_by_side(abs, [1, 2], 2)
    child = os.fork()
    if not child:
        signal.alarm(30)  # ends it if it waits for threads that only its parent has
        os._exit(7 if side_by_side(abs, [-1, -2], 2) == [1, 2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
