"""Whatever leaves wherever, in whatever company: the answers of the outcome table."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_cascade import WORDS

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import evaluate, predicted
from adaptive.text import tokens as token_rows
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Tokens

# Words of each text: [CLS] and [SEP] come on top, the longest are cut.
LENGTHS = (0, 1, 1, 2, 3, 5, 8, 13, 14, 14, 15, 21, 29, 30, 40, 6, 6, 14, 9, 30)
NOBODY = 2.0  # a threshold that no reliability reaches, at an exit that is on all the same
TIERS = (0, 1, 1, 1, 2, 2, 2)

thresholds = st.one_of(
    st.sampled_from([NEVER, ALWAYS, NOBODY]), st.floats(0, 1).map(lambda x: round(x, 2))
)


@pytest.fixture(scope="module")
def tokens(tiny_cascade: Bundle) -> Tokens:
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, words)) for words in LENGTHS]
    return token_rows.tokenize(tiny_cascade.tokenizer, texts, max_length=32)


@pytest.fixture(scope="module")
def table(tiny_cascade: Bundle, tokens: Tokens) -> OutcomeTable:
    return outcomes(tiny_cascade, tokens, np.full(len(tokens), -1, np.int32), 5)


def test_the_table_does_not_depend_on_the_batch_size(
    tiny_cascade: Bundle, tokens: Tokens, table: OutcomeTable
) -> None:
    other = outcomes(tiny_cascade, tokens, table.labels, 1)
    np.testing.assert_allclose(other.reliability, table.reliability, atol=1e-5)
    assert (other.predictions == table.predictions).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    levels=st.lists(thresholds, min_size=7, max_size=7).filter(
        lambda levels: any(level != NEVER for level in levels)
    ),
    routed=st.booleans(),
    rows=st.lists(st.integers(0, len(LENGTHS) - 1), max_size=len(LENGTHS)),
    batch_size=st.integers(1, 21),
    budget=st.sampled_from([1, 40, 150, None]),
)
def test_any_pattern_of_exits_in_any_company_is_what_the_table_says(
    tiny_cascade: Bundle,
    tokens: Tokens,
    table: OutcomeTable,
    levels: list[float],
    routed: bool,
    rows: list[int],
    batch_size: int,
    budget: int | None,
) -> None:
    path = tuple(
        sorted({tier for tier, level in zip(TIERS, levels, strict=True) if level != NEVER})
    )
    policy = Policy(path, tuple(levels))
    if routed:
        policy = replace(policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))
    check(tiny_cascade, tokens, table, policy, rows, batch_size, budget)


@pytest.mark.parametrize(
    "levels",
    [
        (ALWAYS, NEVER, NEVER, NEVER, NEVER, NEVER, 0.0),  # all leave first
        (NOBODY,) * 7,  # none leaves
        (NOBODY, NEVER, NEVER, NEVER, NEVER, ALWAYS, 0.0),  # all leave in the middle
    ],
)
@pytest.mark.parametrize("rows", [[], [0], [12], list(range(len(LENGTHS)))])
def test_patterns_at_the_ends_of_the_range(
    tiny_cascade: Bundle,
    tokens: Tokens,
    table: OutcomeTable,
    levels: tuple[float, ...],
    rows: list[int],
) -> None:
    path = (0, 1, 2) if levels[1] != NEVER else (0, 2)
    check(tiny_cascade, tokens, table, Policy(path, levels), rows, 4, None)


def check(
    bundle: Bundle,
    tokens: Tokens,
    table: OutcomeTable,
    policy: Policy,
    rows: list[int],
    batch_size: int,
    budget: int | None,
) -> None:
    found = answer(
        bundle, token_rows.select(tokens, np.array(rows, np.int64)), policy, batch_size, budget
    )
    costs = work_of(bundle.tiers, bundle.router).at(table.tokens)
    expected = evaluate(policy, table, costs)
    # a reliability within rounding of its threshold may fall on either side
    close = (np.abs(table.reliability - np.asarray(policy.thresholds)) < 1e-5).any(1)[rows]
    assert (found.stage == expected.stage[rows])[~close].all()
    assert (found.entry == expected.entry[rows])[~close].all()
    assert (found.probabilities.argmax(1) == predicted(expected, table)[rows])[~close].all()
    own = table.reliability[rows, found.stage]
    known = ~np.isnan(found.reliability)
    np.testing.assert_allclose(found.reliability[known], own[known], atol=1e-5)


def test_bfloat16_answers_and_decides_in_any_company_as_its_own_table_does(
    tiny_cascade: Bundle, tokens: Tokens
) -> None:
    tiers = tuple(copy.deepcopy(tier).to(torch.bfloat16) for tier in tiny_cascade.tiers)
    half = replace(tiny_cascade, tiers=tiers)
    table = outcomes(half, tokens, np.full(len(tokens), -1, np.int32), 20)
    # Sums in another order may differ in the last of eight bits: rows near a threshold may part.
    levels = [between(scores) for scores in table.reliability.T]
    policy = Policy((0, 1, 2), tuple(levels))
    expected = evaluate(policy, table, work_of(half.tiers).at(table.tokens))
    sure = (np.abs(table.reliability - np.asarray(levels)) > 1e-3).all(1)
    assert len(set(expected.stage[sure].tolist())) > 2 and sure.mean() > 0.8
    for batch_size in (1, 3, 20):
        found = answer(half, tokens, policy, batch_size)
        assert (found.stage == expected.stage)[sure].all()
        own = table.reliability[np.arange(len(tokens)), found.stage]
        np.testing.assert_allclose(found.reliability, own, atol=0.01)


def between(scores: NDArray[np.float32]) -> float:
    """The middle of the widest gap between scores [n], the outermost left aside."""
    inner = np.sort(scores)[2:-2]
    widest = int(np.diff(inner).argmax())
    return float(inner[widest : widest + 2].mean())
