"""Answers are held to the full tier in float32, however it is served."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_cascade import make_cascade, tiny_texts

from adaptive.bundle.contents import Bundle, check
from adaptive.bundle.store import load_bundle, recertify_bundle, save_bundle
from adaptive.certificate.assumptions import ROUNDED
from adaptive.certifying.recertify import recertify
from adaptive.errors import BundleError
from adaptive.measure.recording import outcomes, record
from adaptive.policy.lookup import tier_alone
from adaptive.text import tokens as token_rows
from adaptive.tiers.backbone import Backbone
from adaptive.types import Target, Tokens

ROWS = 120
UNKNOWN = np.full(ROWS, -1, np.int32)
TARGET = Target("agreement", 0.4)


def rows_of(bundle: Bundle, seed: int) -> Tokens:
    texts = list(dict.fromkeys(tiny_texts(ROWS + 30, seed)))[:ROWS]
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=32)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in float32 with search rows, whose full tier is not sure of any."""
    bundle = make_cascade()
    rows, backbone = rows_of(bundle, 2), bundle.tiers[2].backbone
    assert isinstance(backbone, Backbone)
    seen = record(bundle.tiers, rows, 32).logits[-1]
    backbone.model.classifier.bias.data -= seen.median(0).values
    bundle = replace(bundle, outcomes={"search": outcomes(bundle, rows, UNKNOWN, 32)})
    folder = tmp_path_factory.mktemp("reference") / "bundle"
    return save_bundle(bundle, folder, card="card\n", recipe="name: x\n")


@pytest.fixture
def plain(pristine: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def test_a_full_tier_in_half_precision_is_tested_against_itself_in_float32(plain: Path) -> None:
    whole = load_bundle(plain)
    half = load_bundle(plain, dtype=torch.bfloat16)
    again = recertify(half, rows_of(half, 3), UNKNOWN, TARGET)
    found, table = again.certificate, again.outcomes["certify"]
    expected = outcomes(whole, rows_of(whole, 3), UNKNOWN, 32)
    assert expected.worth.own
    assert not table.worth.own
    assert np.array_equal(table.reference, expected.predictions[:, -1])
    assert (table.predictions[:, -1] != table.reference).any()  # so what bfloat16 loses is counted
    assert found is not None and found.front[0].policy == tier_alone(half.stages, 2)
    assert found.front[0].p_value > 0.0
    assert any("against it in float32" in told for told in found.assumptions)
    assert ROUNDED not in found.assumptions
    recertify_bundle(again, plain, card="card\n")
    assert load_bundle(plain, dtype=torch.bfloat16).certificate is not None
    exact = recertify(whole, rows_of(whole, 3), UNKNOWN, TARGET).certificate
    assert exact is not None and exact.front[0].p_value == 0.0
    assert not any("against it in float32" in told for told in exact.assumptions)


def test_a_bundle_served_in_half_precision_keeps_its_float32_weights(
    plain: Path, tmp_path: Path
) -> None:
    half = load_bundle(plain, dtype=torch.bfloat16)
    folder = save_bundle(half, tmp_path / "half", card="card\n", recipe="name: x\n")
    card = json.loads((folder / "tiers/full/tier.json").read_text())
    assert card["dtype"] == "bfloat16"
    kept, was = (load_file(each / "tiers/full/model.safetensors") for each in (folder, plain))
    assert all(torch.equal(kept[name], was[name]) for name in was)
    served = load_bundle(folder)
    assert served.dtype == "bfloat16" and not served.tiers[2].in_float32
    found = outcomes(served, rows_of(served, 3), UNKNOWN, 32)
    whole = outcomes(load_bundle(plain), rows_of(served, 3), UNKNOWN, 32)
    assert np.array_equal(found.reference, whole.predictions[:, -1])


def test_rounded_weights_are_told_of(plain: Path, tmp_path: Path) -> None:
    whole = load_bundle(plain)
    rounded = replace(whole, tiers=tuple(tier.bfloat16() for tier in whole.tiers))
    folder = save_bundle(rounded, tmp_path / "half", card="card\n", recipe="name: x\n")
    half = load_bundle(folder)
    found = recertify(half, rows_of(half, 3), UNKNOWN, TARGET, levels=(0.6,)).certificate
    assert found is not None and found.front[0].p_value > 0.0
    assert all(ROUNDED in each.assumptions for each in (found, *found.further))


def test_search_rows_recorded_in_half_precision_order_a_front_in_float32(plain: Path) -> None:
    half, whole = load_bundle(plain, dtype=torch.bfloat16), load_bundle(plain)
    search = outcomes(half, rows_of(half, 2), UNKNOWN, 32)
    again = recertify(
        replace(whole, outcomes={"search": search}), rows_of(whole, 3), UNKNOWN, TARGET
    )
    found = again.certificate
    assert found is not None and found.front[0].policy == tier_alone(whole.stages, 2)
    assert again.outcomes["certify"].worth.own


def test_a_table_without_float32_answers_does_not_fit_a_full_tier_in_int8(plain: Path) -> None:
    bundle = load_bundle(plain)
    check(bundle)
    bundle.tiers[2].int8 = True
    with pytest.raises(BundleError, match="a full tier that is not in int8, unlike the bundle's"):
        check(bundle)
