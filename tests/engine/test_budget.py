"""Batches stay within a budget of tokens, which gives way where memory runs out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.engine.batching import Limits, RowQueue
from adaptive.measure.recording import record
from adaptive.text import tokens as token_rows
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.state import State

LENGTHS = np.array([3, 9, 1, 9, 4, 2])
ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate"


def run_all(memory: Memory, batch_size: int, budget: int) -> int:
    """Runs all rows, and returns the budget that is left."""
    limits = Limits(batch_size, budget)
    queue = RowQueue(limits)
    queue.add(np.arange(6), LENGTHS)
    while queue:
        rows = queue.take()
        if limits.attempt(partial(memory, rows), LENGTHS[rows]) is None:
            queue.add(rows, LENGTHS[rows])
    return limits.budget


class Memory:
    """Keeps what was run, and fails above some tokens."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        self.most, self.error = most, error
        self.ran: list[list[int]] = []

    def __call__(self, rows: NDArray[np.int64]) -> bool:
        if LENGTHS[rows].sum() > self.most:
            raise self.error
        self.ran.append(rows.tolist())
        return True


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(ALLOCATOR)]
)
def test_out_of_memory_halves_the_budget_and_goes_on(error: RuntimeError) -> None:
    memory = Memory(10, error)
    with pytest.warns(RuntimeWarning) as warned:
        left = run_all(memory, 32, 100)
    assert [str(each.message).partition(" with ")[2].partition(". ")[0] for each in warned] == [
        "28 tokens at once; going on with 14",
        "13 tokens at once; going on with 6",
    ]
    assert left == 6
    assert memory.ran == [[1], [3], [4], [0, 5, 2]]


def test_a_row_that_does_not_fit_alone_and_other_errors_are_raised() -> None:
    with (
        pytest.warns(RuntimeWarning, match="out of memory"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        run_all(Memory(8, torch.OutOfMemoryError("no")), 2, 100)
    with pytest.raises(RuntimeError, match="another"):
        run_all(Memory(8, RuntimeError("another")), 32, 100)


@pytest.mark.parametrize("most", [100, 33])
def test_the_cascade_answers_as_ever_where_memory_is_short(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    tokens = token_rows.tokenize(tiny_cascade.tokenizer, tiny_texts(), max_length=32)
    policy = replace(tiny_cascade.policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))
    expected = answer(tiny_cascade, tokens, policy, 32)
    kept = record(tiny_cascade.tiers, tokens, 32)
    run = Backbone.run

    def short(self: Backbone, state: State, start: int, stop: int) -> State:
        # behind the first exits, so that some rows of the batch have left already
        if start and state.hidden.shape[1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(self, state, start, stop)

    monkeypatch.setattr(Backbone, "run", short)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        found = answer(tiny_cascade, tokens, policy, 32)
    assert (found.stage == expected.stage).all()
    assert (found.entry == expected.entry).all()
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.reliability, expected.reliability, atol=1e-5)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        again = record(tiny_cascade.tiers, tokens, 32)
    for before, after in zip(kept.pooled, again.pooled, strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_no_batch_of_the_cascade_has_more_tokens_than_its_budget(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = token_rows.tokenize(tiny_cascade.tokenizer, tiny_texts(), max_length=32)
    seen: list[int] = []
    run = Backbone.run

    def watched(self: Backbone, state: State, start: int, stop: int) -> State:
        seen.append(state.hidden.shape[1])
        return run(self, state, start, stop)

    monkeypatch.setattr(Backbone, "run", watched)
    expected = answer(tiny_cascade, tokens, tiny_cascade.policy, 1000)
    assert max(seen) > 70
    seen.clear()
    found = answer(tiny_cascade, tokens, tiny_cascade.policy, 1000, 70)
    assert 35 < max(seen) <= 70
    assert (found.stage == expected.stage).all()
