"""The hot loop: what it answers is what the outcome table says, in any company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_cascade import tiny_texts
from tiny_transformers import model_logits

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import evaluate, predicted, single_stage, tier_alone
from adaptive.text import tokens as token_rows
from adaptive.types import NEVER, Policy, Tokens


@pytest.fixture(scope="module")
def tokens(tiny_cascade: Bundle) -> Tokens:
    return token_rows.tokenize(tiny_cascade.tokenizer, tiny_texts(), max_length=32)


def routed(policy: Policy) -> Policy:
    """The same with the router in front; entry costs that send texts to every tier."""
    return replace(policy, risk_weight=1.0, entry_cost=(0.0, 0.0, 0.145))


def policies(bundle: Bundle) -> dict[str, Policy]:
    stages, chosen = bundle.stages, bundle.policy
    off = tuple(NEVER if s.tier == 1 else t for s, t in zip(stages, chosen.thresholds, strict=True))
    no_tiny = (NEVER, *chosen.thresholds[1:])
    return {
        "chosen": chosen,
        "routed": routed(chosen),
        "no mid": Policy((0, 2), off),
        "no tiny": Policy((1, 2), no_tiny),
        "no tiny, routed": routed(Policy((1, 2), no_tiny)),
        "full alone": tier_alone(stages, 2),
        "one early exit": single_stage(stages, 5),
    }


@pytest.mark.parametrize("name", ["chosen", "routed", "no mid", "no tiny", "no tiny, routed"])
def test_the_loop_does_what_the_outcome_table_says(
    tiny_cascade: Bundle, tokens: Tokens, name: str
) -> None:
    policy = policies(tiny_cascade)[name]
    table = outcomes(tiny_cascade, tokens, np.full(len(tokens), -1, np.int32), 16)
    costs = work_of(tiny_cascade.tiers, tiny_cascade.router).at(table.tokens)
    expected = evaluate(policy, table, costs)
    found = answer(tiny_cascade, tokens, policy, 7)
    assert (found.stage == expected.stage).all()
    assert (found.entry == expected.entry).all()
    assert (found.probabilities.argmax(1) == predicted(expected, table)).all()
    own = table.reliability[np.arange(len(tokens)), expected.stage]
    np.testing.assert_allclose(found.reliability, own, atol=1e-5)


def test_every_tier_answers_some_texts(tiny_cascade: Bundle, tokens: Tokens) -> None:
    """Else the tests here would prove little."""
    for name in ("chosen", "routed"):
        found = answer(tiny_cascade, tokens, policies(tiny_cascade)[name], 16)
        assert {tiny_cascade.stages[k].tier for k in found.stage} == {0, 1, 2}, name
    assert len(set(found.entry.tolist())) == 3


@pytest.mark.parametrize("name", ["chosen", "routed", "no tiny, routed", "full alone"])
def test_an_answer_does_not_depend_on_batch_mates_or_order(
    tiny_cascade: Bundle, tokens: Tokens, name: str
) -> None:
    policy = policies(tiny_cascade)[name]
    whole = answer(tiny_cascade, tokens, policy, 16)
    shuffled = np.random.default_rng(0).permutation(len(tokens))
    for batch_size, order in ((1, np.arange(len(tokens))), (64, shuffled), (3, shuffled[:10])):
        other = answer(tiny_cascade, token_rows.select(tokens, order), policy, batch_size)
        assert (other.stage == whole.stage[order]).all()
        np.testing.assert_allclose(other.probabilities, whole.probabilities[order], atol=1e-5)


def test_a_bare_policy_gives_the_logits_of_the_model_itself(
    tiny_cascade: Bundle, tokens: Tokens
) -> None:
    found = answer(tiny_cascade, tokens, tier_alone(tiny_cascade.stages, 2), 16)
    batch = token_rows.pack(tokens, np.arange(len(tokens)))
    with torch.inference_mode():
        logits = model_logits(tiny_cascade.tiers[2].backbone.model, batch)
    np.testing.assert_allclose(found.probabilities, logits.softmax(1).numpy(), atol=1e-5)
    assert np.isnan(found.reliability).all()
    assert (found.entry == 2).all()


def test_segments_behind_the_last_switched_on_exit_never_run(
    tiny_cascade: Bundle, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mid tier's second layer is not worth running where its last exit is off."""
    ran: list[tuple[int, int]] = []
    mid = tiny_cascade.tiers[1].backbone
    run = mid.run
    monkeypatch.setattr(mid, "run", lambda s, a, b: (ran.append((a, b)), run(s, a, b))[1])
    thresholds = list(tiny_cascade.policy.thresholds)
    thresholds[2], thresholds[3] = thresholds[3], NEVER
    answer(tiny_cascade, tokens, Policy((0, 1, 2), tuple(thresholds)), 16)
    assert ran and max(stop for _, stop in ran) == 1


def test_no_rows_give_no_answers(tiny_cascade: Bundle) -> None:
    none = token_rows.tokenize(tiny_cascade.tokenizer, [], max_length=32)
    assert len(answer(tiny_cascade, none, tiny_cascade.policy, 16).stage) == 0
