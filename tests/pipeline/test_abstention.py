"""A pipeline leaves to nobody just the texts that the look-up says, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.measure.evaluation import report
from adaptive.measure.recording import outcomes
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import evaluate, predicted, single_stage, tier_alone
from adaptive.types import Policy

TEXTS = tiny_texts(60, 4)


def policies(bundle: Bundle) -> dict[str, Policy]:
    return {
        "chosen": bundle.policy,
        "full alone": tier_alone(bundle.stages, 2),
        "early exit": single_stage(bundle.stages, 5),
    }


@pytest.mark.parametrize("name", ["chosen", "full alone", "early exit"])
def test_texts_that_the_last_stage_is_unsure_of_get_no_label(
    tiny_cascade: Bundle, name: str
) -> None:
    whole = policies(tiny_cascade)[name]
    last = max(k for k in range(len(whole.thresholds)) if whole.on(k))
    pipeline = AdaptivePipeline(tiny_cascade)
    tokens = pipeline.tokenize(TEXTS)
    table = outcomes(tiny_cascade, tokens, np.full(60, -1, np.int32), 32)
    ordered = np.sort(table.reliability[:, last])
    gap = int(np.diff(ordered[15:45]).argmax()) + 15  # no rounding reaches across it
    policy = replace(whole, abstain=float(ordered[gap : gap + 2].mean()))
    bundle = replace(tiny_cascade, policy=policy)
    assert bundle.costs is not None
    expected = evaluate(policy, table, bundle.costs.at(table.tokens))
    answers = AdaptivePipeline(bundle)(TEXTS)
    plain = AdaptivePipeline(replace(bundle, policy=whole))(TEXTS)
    assert [a["routing"]["abstained"] for a in answers] == (~expected.answered).tolist()
    assert 0 < sum(a["routing"]["abstained"] for a in answers) < 60
    for given, before, cost in zip(answers, plain, expected.cost, strict=True):
        assert given["score"] == pytest.approx(before["score"], abs=1e-5)
        assert given["label"] == (None if given["routing"]["abstained"] else before["label"])
        assert given["routing"]["cost"] == pytest.approx(cost)
        assert not before["routing"]["abstained"]
    index = int(expected.answered.argmin())
    (single,) = AdaptivePipeline(bundle)([TEXTS[index]], top_k=None)[0]
    assert single["label"] is None
    told = AdaptivePipeline(bundle).explain(TEXTS[index])
    assert told.label is None and "no answer" in str(told)
    rows = report(bundle, policy, table)["rows"]
    assert rows[0]["abstained"] == pytest.approx((~expected.answered).mean())
    same = (predicted(expected, table) == table.predictions[:, -1])[expected.answered].mean()
    assert rows[0]["agreement"] == pytest.approx(same)
    assert all("abstained" not in row for row in rows[1:])


def test_a_text_is_left_to_nobody_where_one_of_its_windows_is(tiny_cascade: Bundle) -> None:
    alone = tier_alone(tiny_cascade.stages, 2)
    bundle = replace(tiny_cascade, policy=replace(alone, abstain=2.0))
    long = " ".join(tiny_texts(12, 6))
    (answer,) = AdaptivePipeline(bundle)([long], truncation="windows")
    assert answer["routing"]["windows"] > 1
    assert answer["routing"]["abstained"] and answer["label"] is None
