"""Deep segments run on full batches: rows behind an exit wait for others, within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import WORDS

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.engine.scheduler import Scheduler
from adaptive.measure.recording import outcomes
from adaptive.policy.lookup import tier_alone
from adaptive.text import tokens as token_rows
from adaptive.tiers.state import State
from adaptive.types import NEVER, Policy, Tokens

TEXTS, BATCH = 64, 8


@pytest.fixture(scope="module")
def tokens(tiny_cascade: Bundle) -> Tokens:
    """Rows of one length, so that batches are cut by rows alone."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(TEXTS)]
    return token_rows.tokenize(tiny_cascade.tokenizer, texts, max_length=32)


@pytest.fixture(scope="module")
def policy(tiny_cascade: Bundle, tokens: Tokens) -> Policy:
    """The full tier, left by half of the texts at its first exit and half of those at the next."""
    table = outcomes(tiny_cascade, tokens, np.full(TEXTS, -1, np.int32), BATCH)
    first, second = table.reliability[:, 4], table.reliability[:, 5]
    early = float(np.median(first))
    late = float(np.median(second[first < early]))
    return Policy((2,), (NEVER,) * 4 + (early, late, 0.0))


@pytest.fixture()
def ran(tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Depth and rows of each segment of the full tier that runs."""
    full, calls = tiny_cascade.tiers[2].backbone, []
    run = full.run

    def watched(state: State, start: int, stop: int) -> State:
        if stop > start:
            calls.append((start, len(state.layout.lengths)))
        return run(state, start, stop)

    monkeypatch.setattr(full, "run", watched)
    return calls


def test_segments_behind_exits_run_on_full_batches(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, ran: list[tuple[int, int]]
) -> None:
    found = answer(tiny_cascade, tokens, policy, BATCH)
    shares = np.bincount(found.stage, minlength=7)[4:]
    assert shares.tolist() == [32, 16, 16]
    depths = [tiny_cascade.stages[k].depth for k in (4, 5)]
    for depth, rows in zip(depths, (32, 16), strict=True):
        batches = [count for start, count in ran if start == depth]
        assert batches == [BATCH] * (rows // BATCH)


def test_the_deepest_full_batch_runs_first(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, ran: list[tuple[int, int]]
) -> None:
    """Else all texts would stand before the deep segments, and their states in memory."""
    answer(tiny_cascade, tokens, policy, BATCH)
    depths = [depth for depth, _ in ran]
    last = max(depths)
    assert depths.index(last) < len(depths) - 1 - depths[::-1].index(0)


def test_a_call_of_one_batch_runs_each_segment_once(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, ran: list[tuple[int, int]]
) -> None:
    one = token_rows.select(tokens, np.arange(BATCH))
    found = answer(tiny_cascade, one, policy, BATCH)
    assert (found.stage >= 4).all()
    depths = [depth for depth, _ in ran]
    assert depths == sorted(set(depths)) and len(depths) > 1


def test_fewer_than_two_batches_wait_before_a_segment(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind layers. Behind the embeddings all of a call's rows may stand, within the budget."""
    shallow, deep = [0], [0]
    choose = Scheduler.choose

    def watched(self: Scheduler, *given: Any, **options: Any) -> tuple[int, int | None] | None:
        counts = [len(queue) for queue in self.waiting]
        shallow.extend(counts[2:3])  # the first hop is the first tier's, the next the full tier's
        deep.extend(counts[3:])
        return choose(self, *given, **options)

    monkeypatch.setattr(Scheduler, "choose", watched)
    half = int(tokens.lengths[:32].sum())
    answer(tiny_cascade, tokens, policy, BATCH, budget=half)
    assert BATCH <= max(deep) < 2 * BATCH
    assert BATCH < max(shallow) < 32 + 2 * BATCH


def test_exits_before_the_first_layer_see_all_rows_at_once(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost a few small calls whatever the rows; layers run on batches all the same."""
    full, seen = tiny_cascade.tiers[2], []
    head = full.answer

    def watched(state: State, exit: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((exit, len(state.layout.lengths)))
        return head(state, exit)

    monkeypatch.setattr(full, "answer", watched)
    answer(tiny_cascade, tokens, policy, BATCH)
    assert [rows for exit, rows in seen if exit == 0] == [TEXTS]
    assert max(rows for exit, rows in seen if exit) == BATCH


def test_a_stage_alone_is_one_segment_on_batches(
    tiny_cascade: Bundle, tokens: Tokens, ran: list[tuple[int, int]]
) -> None:
    """Nobody asks the exits before it, so nothing stops there."""
    answer(tiny_cascade, tokens, tier_alone(tiny_cascade.stages, 2), BATCH)
    assert ran == [(0, BATCH)] * (TEXTS // BATCH)


def test_batches_that_the_token_budget_cut_are_full(
    tiny_cascade: Bundle, tokens: Tokens, ran: list[tuple[int, int]]
) -> None:
    """Where nobody leaves they go straight through: joined, they would only be cut again."""
    length = int(tokens.lengths[0])
    nobody = Policy((2,), (NEVER,) * 4 + (2.0, 2.0, 0.0))
    answer(tiny_cascade, tokens, nobody, TEXTS, budget=BATCH * length + length // 2)
    depths = [depth for depth, _ in ran]
    assert {count for _, count in ran} == {BATCH}
    assert depths == sorted(set(depths)) * (TEXTS // BATCH)


def test_rows_done_with_a_tier_are_neither_picked_nor_parted(
    tiny_cascade: Bundle, tokens: Tokens, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next tier begins with their tokens, so what the last one left is thrown away."""
    picked: list[int] = []
    select = State.select

    def watched(self: State, rows: np.ndarray, *others: torch.Tensor) -> State:
        picked.append(self.hidden.shape[1] // len(self.layout.lengths))
        return select(self, rows, *others)

    monkeypatch.setattr(State, "select", watched)
    found = answer(tiny_cascade, tokens, policy, BATCH)
    assert set(found.stage.tolist()) == {4, 5, 6}
    assert picked and 1 not in picked  # a bag's rows are of one token


def test_joined_states_are_those_of_one_batch(tiny_cascade: Bundle, tokens: Tokens) -> None:
    backbone = tiny_cascade.tiers[2].backbone
    with torch.inference_mode():
        parts = [
            backbone.run(backbone.embed(token_rows.pack(tokens, rows)), 0, 1)
            for rows in (np.arange(3), np.arange(3, 8))
        ]
        whole = backbone.run(backbone.embed(token_rows.pack(tokens, np.arange(8))), 0, 2)
        joined = backbone.run(State.join(parts), 1, 2)
    torch.testing.assert_close(joined.hidden, whole.hidden, atol=1e-5, rtol=1e-5)
    assert (joined.layout.lengths == whole.layout.lengths).all()
