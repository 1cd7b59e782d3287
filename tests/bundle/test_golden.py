"""Bundles that earlier versions wrote open and answer as they did when they were written.

Each folder of tests/golden was written by the version whose format it has, and is never written
again; `adaptive.bundle.layout` says how a new one comes in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptive import AdaptivePipeline
from adaptive.bundle.layout import FORMAT
from adaptive.bundle.store import load_bundle
from adaptive.certifying.recertify import recertify
from adaptive.policy.lookup import evaluate, predicted
from adaptive.text.tokens import tokenize
from adaptive.types import Target

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# text: label, score, tier, exit, cost in layers x tokens; of a bundle of random weights
ANSWERS = {
    "word12 word30 word5 word8 word21": ("bad", 0.378130, "tiny", 0, 0.1796875),
    "word9 word14": ("so-so", 0.429124, "full", 1, 4.1796875),
    "word3 word7 word1": ("so-so", 0.458168, "full", 2, 10.3671875),
}


def test_there_is_one_of_each_format() -> None:
    assert {each.name for each in GOLDEN.iterdir()} == {f"format{n + 1}" for n in range(FORMAT)}


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_a_bundle_answers_as_it_did_when_it_was_written(folder: Path) -> None:
    if any(folder.glob("tiers/*/layers")):
        pytest.importorskip("onnxruntime")
    pipeline = AdaptivePipeline.from_config(folder)
    for text, (label, score, tier, place, cost) in ANSWERS.items():
        (answer,) = pipeline([text])
        routing = answer["routing"]
        assert (answer["label"], routing["tier"], routing["exit"]) == (label, tier, place)
        assert answer["score"] == pytest.approx(score, abs=1e-4)
        assert routing["cost"] == pytest.approx(cost) and routing["covered"]


def test_what_format_1_recorded_and_certified_is_read_and_can_be_certified_anew() -> None:
    bundle = load_bundle(GOLDEN / "format1")
    certificate = bundle.certificate
    assert certificate is not None and certificate.verdict == "CERTIFIED"
    assert (certificate.certified, len(certificate.front), certificate.n) == (3, 4, 160)
    assert certificate.targets == (Target("agreement", 0.35, 0.9),)
    search, certified = bundle.outcomes["search"], bundle.outcomes["certify"]
    assert search.worth.known and not certified.worth.known and certified.worth.exact
    assert search.worth.reference.sum() == 102  # of 120, as labelled
    assert bundle.costs is not None
    found = evaluate(certificate.policy, certified, bundle.costs.of(certified))
    served = next(t for t in certificate.front if t.policy == certificate.policy)
    assert found.cost.mean() == pytest.approx(served.cost)
    assert 1.0 - found.alike.mean() - 0.35 == pytest.approx(served.excess)
    same = predicted(found, certified) == certified.reference
    assert (same == (found.alike == 1.0)).all()
    texts = [f"word{a} word{b} word{a + b}" for a in range(8) for b in range(12)]
    tokens = tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    unknown = np.full(len(texts), -1, np.int32)
    again = recertify(bundle, tokens, unknown, Target("agreement", 0.4, 0.9))
    assert again.certificate is not None and again.certificate.certified >= 1
