"""A bundle is put into the quickest runners of a machine, before it is certified there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle
from adaptive.measure.timing import costs_here, measure_costs
from adaptive.text.tokens import tokenize
from adaptive.tiers import int8
from adaptive.training.served_here import MOST, parted, served_here

GOLDEN = Path(__file__).parents[1] / "golden" / "format2"


@pytest.mark.parametrize("count", [1, 9, 300, 40_000])
def test_few_rows_choose_and_no_row_does_both(count: int) -> None:
    chosen, others = parted(count)
    assert np.array_equal(np.sort(np.concatenate([chosen, others])), np.arange(count))
    assert 1 <= len(chosen) <= min(MOST, max(1, count // 10))
    if count > 1000:  # from all over the data: files may be sorted
        assert np.diff(chosen).max() <= 2 * count / len(chosen)


@pytest.fixture
def priced() -> Bundle:
    """A bundle whose milliseconds were measured here."""
    bundle = load_bundle(GOLDEN, uncertified=True)
    how = {"batch_size": 4, "lengths": [4, 8], "repeats": 1}
    found = measure_costs(bundle.tiers, bundle.reliability, torch.device("cpu"), **how)
    return replace(bundle, costs=found)


@pytest.mark.skipif(not int8.available(), reason="no kernels")
def test_costs_are_measured_anew_and_float32_stays_the_reference(
    priced: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.tiers.runners.find_spec", lambda name: None)
    monkeypatch.setattr("adaptive.training.learn.runners.quickest", lambda took: "torch-int8")
    tokens = tokenize(priced.tokenizer, tiny_texts(12), max_length=priced.max_length)
    assert costs_here(priced, 4) is priced.costs
    found = served_here(priced, GOLDEN, tokens, 4, tmp_path)
    assert found.tiers[-1].int8 and found.certificate is None
    assert costs_here(found, 4) is not found.costs
    for name, table in priced.outcomes.items():
        assert table.worth.own and not found.outcomes[name].worth.own
        assert np.array_equal(found.outcomes[name].reference, table.reference)
