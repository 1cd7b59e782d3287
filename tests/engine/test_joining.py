"""Rows that join and leave an engine at any time get the answers of the outcome table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_cascade import WORDS, make_cascade

from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine, Finished, answer
from adaptive.errors import BatchError
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import abstains, evaluate, predicted
from adaptive.text import tokens as token_rows
from adaptive.tiers.state import State
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Tokens

LENGTHS = (0, 1, 1, 2, 3, 5, 8, 13, 14, 14, 15, 21, 29, 30, 40, 6, 6, 14, 9, 30)
TIERS = (0, 1, 1, 1, 2, 2, 2)
HALF = 0.5  # the reliability of every stage of one of the two cascades, to the last bit
MORE = float(np.nextafter(np.float32(HALF), np.float32(1)))
NONE_REACHES = 2.0

levels = st.one_of(
    st.sampled_from([NEVER, NEVER, ALWAYS, NONE_REACHES, HALF, MORE]),
    st.floats(0, 1).map(lambda x: round(x, 2)),
)
groups = st.lists(st.integers(0, len(LENGTHS) - 1), min_size=1, max_size=12)
# what happens one after the other: rows join, so many steps, one in so many slots is cancelled
events = st.lists(
    st.one_of(groups, st.integers(1, 4), st.tuples(st.integers(1, 5))), min_size=1, max_size=12
)


@dataclass(frozen=True)
class Case:
    bundle: Bundle
    tokens: Tokens
    table: OutcomeTable


@pytest.fixture(scope="module")
def cases() -> tuple[Case, Case]:
    """One of random reliabilities, and one that finds every answer as good as a coin."""
    uneven = make_cascade()
    stages, none = len(uneven.stages), np.zeros(len(FEATURES))
    even = Reliability(stages)
    for stage in range(stages):
        even.set_fit(stage, (none, none + 1.0, none, 0.0))
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, words)) for words in LENGTHS]
    tokens = token_rows.tokenize(uneven.tokenizer, texts, max_length=32)
    unknown = np.full(len(tokens), -1, np.int32)
    found = [
        Case(bundle, tokens, outcomes(bundle, tokens, unknown, 20))
        for bundle in (uneven, replace(uneven, reliability=even))
    ]
    return found[0], found[1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    tie=st.booleans(),
    thresholds=st.lists(levels, min_size=7, max_size=7).filter(
        lambda found: any(level != NEVER for level in found)
    ),
    routed=st.booleans(),
    abstain=st.sampled_from([ALWAYS, HALF, MORE]),
    script=events,
    batch_size=st.integers(1, 9),
    budget=st.sampled_from([1, 60, None]),
    in_flight=st.sampled_from([1, 3]),
)
def test_rows_that_join_and_leave_at_random_are_answered_as_the_table_says(
    cases: tuple[Case, Case],
    tie: bool,
    thresholds: list[float],
    routed: bool,
    abstain: float,
    script: list[list[int] | int | tuple[int]],
    batch_size: int,
    budget: int | None,
    in_flight: int,
) -> None:
    case = cases[tie]
    if tie:  # most thresholds are what the reliabilities are
        special = (NEVER, ALWAYS, NONE_REACHES, MORE)
        thresholds = [level if level in special else HALF for level in thresholds]
    on = {tier for tier, level in zip(TIERS, thresholds, strict=True) if level != NEVER}
    policy = Policy(tuple(sorted(on)), tuple(thresholds), abstain=abstain)
    if routed:
        policy = replace(policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))
    engine = Engine(case.bundle, policy, batch_size, budget)
    engine.in_flight = in_flight
    inside: dict[int, int] = {}  # slot -> row
    for event in script:
        if isinstance(event, list):
            rows = np.array(event)
            slots = engine.submit(token_rows.select(case.tokens, rows)).tolist()
            assert not set(slots) & set(inside)
            inside |= dict(zip(slots, event, strict=True))
        elif isinstance(event, int):
            for _ in range(event):
                check(case, policy, engine.step(), inside)
        else:
            gone = [slot for slot in inside if slot % event[0] == 0]
            engine.cancel(np.array(gone, np.int64))
            for slot in gone:
                del inside[slot]
    while not engine.idle:
        check(case, policy, engine.step(more=False), inside)
    assert not inside and not engine.rows.live and not engine.rows.cancelled
    assert len(engine.step()) == 0


def check(case: Case, policy: Policy, finished: Finished, inside: dict[int, int]) -> None:
    """Takes finished rows from those inside, and holds their answers against the table."""
    rows = np.array([inside.pop(slot) for slot in finished.slots.tolist()], np.int64)
    if not len(rows):
        return
    costs = work_of(case.bundle.tiers, case.bundle.router).at(case.table.tokens)
    expected, found = evaluate(policy, case.table, costs), finished.answers()
    sure = ~near(case.table, policy)[rows]
    assert (found.stage == expected.stage[rows])[sure].all()
    assert (found.entry == expected.entry[rows])[sure].all()
    prediction = np.where(
        abstains(policy, case.bundle.stages, found.stage, found.reliability), -1, found.label
    )
    assert (prediction == predicted(expected, case.table)[rows])[sure].all()
    assert (found.label == found.probabilities.argmax(1)).all()
    own = case.table.reliability[rows, found.stage]
    known = ~np.isnan(found.reliability)
    np.testing.assert_allclose(found.reliability[known], own[known], atol=1e-5)


def near(table: OutcomeTable, policy: Policy) -> NDArray[np.bool_]:
    """Rows that rounding may put on either side of a threshold, [n]; an even score cannot round."""
    limits = np.array([*policy.thresholds, policy.abstain], np.float32)
    scores = np.concatenate([table.reliability, table.reliability[:, -1:]], 1)
    final = max(k for k in range(len(policy.thresholds)) if policy.on(k))
    scores[:, -1] = table.reliability[:, final]
    close = (np.abs(scores - limits) < 1e-5) & (scores != np.float32(HALF))
    found: NDArray[np.bool_] = close.any(1)
    return found


def test_the_next_rows_join_those_that_are_deep(cases: tuple[Case, Case]) -> None:
    """Of all tiers: none waits until another one is empty."""
    case = cases[0]
    policy = Policy((0, 1, 2), (NONE_REACHES,) * 6 + (ALWAYS,))
    engine = Engine(case.bundle, policy, 4)
    engine.submit(token_rows.select(case.tokens, np.arange(3)))
    while len(engine.scheduler.waiting[-1]) < 3:
        assert len(engine.step()) == 0
    engine.submit(token_rows.select(case.tokens, np.arange(3, 6)))
    sizes = []
    while not engine.idle:
        sizes.append(len(engine.step(more=False)))
    assert [size for size in sizes if size] == [4, 2]


def test_a_cancelled_row_is_in_no_later_batch(
    cases: tuple[Case, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases[0]
    full = case.bundle.tiers[2].backbone
    ran: list[list[int]] = []
    run = full.run

    def watched(state: State, start: int, stop: int) -> State:
        ran.append(state.layout.lengths.tolist())
        return run(state, start, stop)

    monkeypatch.setattr(full, "run", watched)
    policy = Policy((2,), (NEVER,) * 4 + (NONE_REACHES, NONE_REACHES, ALWAYS))
    engine = Engine(case.bundle, policy, 8)
    slots = engine.submit(token_rows.select(case.tokens, np.array([3, 6, 10])))
    while len(engine.scheduler.waiting[-1]) < 3:  # before the last hop
        engine.step()
    engine.cancel(slots[1:2])
    again = engine.submit(token_rows.select(case.tokens, np.array([11])))
    assert again.tolist() == slots[1:2].tolist()  # its slot is another row's now
    ran.clear()
    inside = {int(slots[0]): 3, int(slots[2]): 10, int(again[0]): 11}
    while not engine.idle:
        check(case, policy, engine.step(more=False), inside)
    assert not inside
    assert all(case.tokens.lengths[6] not in lengths for lengths in ran)


def test_a_row_cancelled_while_its_batch_runs_is_not_answered(cases: tuple[Case, Case]) -> None:
    case = cases[0]
    policy = Policy((0, 2), (NONE_REACHES, *[NEVER] * 3, NEVER, NEVER, ALWAYS))
    engine = Engine(case.bundle, policy, 2)
    engine.in_flight = 3
    inside = {int(slot): row for row, slot in enumerate(engine.submit(first_rows(case, 6)))}
    while not engine.running:
        check(case, policy, engine.step(), inside)
    gone = int(engine.running[0].batch.slots[0])
    engine.cancel(np.array([gone]))
    del inside[gone]
    slots = engine.submit(token_rows.select(case.tokens, np.array([7, 8]))).tolist()
    assert gone not in slots  # not free before its batch is back
    inside |= dict(zip(slots, (7, 8), strict=True))
    while not engine.idle:
        check(case, policy, engine.step(more=False), inside)
    assert not inside


def first_rows(case: Case, count: int) -> Tokens:
    return token_rows.select(case.tokens, np.arange(count))


def test_a_batch_that_fails_names_its_slots_and_the_others_go_on(
    cases: tuple[Case, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases[0]
    bad = int(case.tokens.lengths[11])  # of this row alone
    assert (case.tokens.lengths == bad).sum() == 1
    mid = case.bundle.tiers[1].backbone
    run = mid.run

    def fails(state: State, start: int, stop: int) -> State:
        if bad in state.layout.lengths and stop > start:
            raise ValueError("no such row")
        return run(state, start, stop)

    monkeypatch.setattr(mid, "run", fails)
    policy = replace(case.bundle.policy, path=(0, 1, 2))
    policy = replace(policy, thresholds=(NONE_REACHES,) * 6 + (ALWAYS,))
    engine = Engine(case.bundle, policy, 3)
    inside = dict(enumerate(range(len(LENGTHS))))
    engine.submit(case.tokens)
    failed: list[int] = []
    while not engine.idle:
        try:
            check(case, policy, engine.step(more=False), inside)
        except BatchError as error:
            failed += error.slots
            assert isinstance(error.cause, ValueError) and "ValueError" in str(error)
    assert 11 in failed and len(failed) <= 3
    assert sorted(inside) == sorted(failed)
    rows = np.array([row for row in failed if row != 11])
    slots = engine.submit(token_rows.select(case.tokens, rows))
    inside = dict(zip(slots.tolist(), rows.tolist(), strict=True))
    while not engine.idle:
        check(case, policy, engine.step(more=False), inside)
    assert not inside
    with pytest.raises(ValueError, match="no such row"):
        answer(case.bundle, case.tokens, policy, 3)
