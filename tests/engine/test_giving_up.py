"""Rows that leave before they are sure, and policies of which a tier is gone."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine, answer, collect
from adaptive.errors import BatchError
from adaptive.policy.lookup import single_stage, tier_alone, without_tiers
from adaptive.text import tokens as token_rows
from adaptive.types import NEVER, Policy, Tokens

ASKED = 2.0  # the exit is asked, and no reliability reaches it


@pytest.fixture(scope="module")
def tokens(tiny_cascade: Bundle) -> Tokens:
    return token_rows.tokenize(tiny_cascade.tokenizer, tiny_texts(12), max_length=32)


def test_rows_that_are_given_up_leave_with_what_the_last_exit_said(
    tiny_cascade: Bundle, tokens: Tokens
) -> None:
    policy = Policy((0, 1, 2), (ASKED,) * 7)
    engine = Engine(tiny_cascade, policy, 4, keep=True)
    slots = engine.submit(tokens)
    for _ in range(4):
        assert not len(engine.step())
    waiting = engine.submit(tokens)  # of these no exit is asked
    parts = engine.give_up(np.concatenate([slots, waiting]))
    assert engine.idle
    found, answers = collect(parts)
    assert sorted(found) == sorted(slots)
    stages = set(answers.stage.tolist())
    assert len(stages) > 1 and max(stages) > 1
    for stage in stages:
        alone = answer(tiny_cascade, tokens, single_stage(tiny_cascade.stages, stage), 4)
        here = answers.stage == stage
        assert alone.probabilities is not None and answers.probabilities is not None
        np.testing.assert_allclose(
            answers.probabilities[here], alone.probabilities[found[here]], atol=1e-5
        )
        assert (answers.label[here] == alone.label[found[here]]).all()


def test_a_slot_that_is_taken_anew_forgets_what_was_said_before(
    tiny_cascade: Bundle, tokens: Tokens
) -> None:
    engine = Engine(tiny_cascade, Policy((0, 1, 2), (ASKED,) * 7), 16, keep=True)
    engine.submit(tokens)
    engine.step()
    engine.give_up(np.arange(len(tokens)))
    assert engine.give_up(engine.submit(tokens)) == [] and engine.idle


def test_a_failed_batch_tells_the_tier(
    tiny_cascade: Bundle, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(tiny_cascade.tiers[1].backbone, "run", fails)
    engine = Engine(tiny_cascade, Policy((0, 1, 2), (ASKED,) * 7), 16)
    engine.submit(tokens)
    with pytest.raises(BatchError) as caught:
        while not engine.idle:
            engine.step()
    assert caught.value.tier == 1


def test_a_policy_without_a_tier_leaves_the_rest_as_it_was(tiny_cascade: Bundle) -> None:
    stages, policy = tiny_cascade.stages, tiny_cascade.policy
    off = tuple(NEVER if s.tier == 1 else t for s, t in zip(stages, policy.thresholds, strict=True))
    assert without_tiers(policy, stages, {1}) == Policy((0, 2), off)
    assert without_tiers(policy, stages, set()) == policy
    assert without_tiers(policy, stages, {0}) == tier_alone(stages, 2)
    assert without_tiers(policy, stages, {0, 2}) == tier_alone(stages, 1)
    assert without_tiers(tier_alone(stages, 2), stages, {1}) == tier_alone(stages, 2)
    assert without_tiers(tier_alone(stages, 2), stages, {2}) == tier_alone(stages, 1)
    assert without_tiers(policy, stages, {0, 1, 2}) is None


def test_without_its_last_tier_the_one_before_answers_whatever_is_left(
    tiny_cascade: Bundle, tokens: Tokens
) -> None:
    rest = without_tiers(tiny_cascade.policy, tiny_cascade.stages, {2})
    assert rest is not None
    found = answer(tiny_cascade, tokens, rest, 4)
    assert {tiny_cascade.stages[stage].tier for stage in found.stage} <= {0, 1}
    assert len(found.label) == len(tokens)
