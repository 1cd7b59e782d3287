"""A reliability that just reaches a threshold is enough, in look-ups, cascade and kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_cascade import make_cascade, tiny_texts

from adaptive.answers import Prices, join_windows
from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import Lookup
from adaptive.text import tokens as token_rows
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Tokens

HALF = 0.5  # every text's reliability at every stage, to the last bit
MORE = float(np.nextafter(np.float32(HALF), np.float32(1)))
TEXTS = tiny_texts(12, 5)
Case = tuple[Bundle, Tokens, OutcomeTable]


def even_handed(stages: int) -> Reliability:
    """Exits that find every answer as good as a coin."""
    reliability, none = Reliability(stages), np.zeros(len(FEATURES))
    for stage in range(stages):
        reliability.set_fit(stage, (none, none + 1.0, none, 0.0))
    return reliability


@pytest.fixture(scope="module")
def case() -> Case:
    bundle = make_cascade()
    bundle = replace(bundle, reliability=even_handed(len(bundle.stages)), router=None)
    tokens = token_rows.tokenize(bundle.tokenizer, TEXTS, max_length=32)
    table = outcomes(bundle, tokens, np.full(len(TEXTS), -1, np.int32), 8)
    assert (table.reliability == np.float32(HALF)).all()
    return bundle, tokens, table


@pytest.mark.parametrize("stage", range(6))
def test_a_text_leaves_where_its_reliability_is_the_threshold(case: Case, stage: int) -> None:
    bundle, tokens, table = case
    last = len(bundle.stages) - 1
    lookup = Lookup.of(table, work_of(bundle.tiers, None).at(table.tokens))
    for threshold, expected in ((HALF, stage), (MORE, last)):
        values = [NEVER] * last + [ALWAYS]
        values[stage] = threshold
        policy = Policy(tuple(sorted({bundle.stages[stage].tier, 2})), tuple(values))
        assert (lookup.evaluate(policy).stage == expected).all()
        assert (answer(bundle, tokens, policy, 8).stage == expected).all()


def test_a_text_is_answered_where_its_reliability_is_the_least_allowed(case: Case) -> None:
    bundle, tokens, table = case
    costs = work_of(bundle.tiers, None)
    lookup = Lookup.of(table, costs.at(table.tokens))
    for least, unanswered in ((HALF, False), (MORE, True)):
        policy = Policy((2,), (*[NEVER] * 6, ALWAYS), abstain=least)
        assert (lookup.evaluate(policy).answered != unanswered).all()
        rows = answer(bundle, tokens, policy, 8)
        joined = join_windows(bundle, policy, Prices.of(bundle, policy, costs), tokens, rows)
        assert (joined.abstained == unanswered).all()


def test_kernel_graph_and_torch_find_the_same_tie() -> None:
    pytest.importorskip("triton")
    pytest.importorskip("onnxruntime")
    if torch.cuda.is_available():
        pytest.skip("the kernel's tensors would have to lie on the GPU")
    from tiny_exits import an_exit, judged_by_torch, judged_in_graph

    from adaptive.exits.kernel import judge_by_kernel

    reliability = even_handed(2)
    seen = an_exit(5, 3, 4, first=True, size=1.0, seed=0)
    logits, pooled, _, _, _, anchor, log_length = seen
    for stage in (0, 1):
        given = (logits, pooled, None, anchor if stage else None, log_length)
        by_kernel = judge_by_kernel(reliability, stage, *given).answer[:, 2]
        for found in (judged_by_torch(reliability, stage, *seen)[3], by_kernel):
            assert (found == np.float32(HALF)).all()
        assert (judged_in_graph(reliability, stage, *seen)[3] == np.float32(HALF)).all()
