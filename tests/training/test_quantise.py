"""Builds whose tiers are served in int8: certified against the full tier in float32."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_builds import build_in, context_of, recipe_in
from transformers import AutoModelForSequenceClassification

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle, recertify_bundle, save_bundle
from adaptive.certifying.recertify import recertify
from adaptive.errors import BundleError, TargetError
from adaptive.measure.evaluation import report
from adaptive.measure.recording import outcomes
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.search import Found
from adaptive.policy.worth import reclassified
from adaptive.text import tokens as token_rows
from adaptive.tiers import int8
from adaptive.tiers.store import load_tier, reference_of
from adaptive.training.build import steps_of
from adaptive.training.choose import _best
from adaptive.training.record_outcomes import load_table
from adaptive.types import ALWAYS, Policy, Target

DTYPE = "float32, int8 in mid and full"
# linear heads: wider ones are so sure of these sentences that reliabilities do not differ
CHANGES: dict[str, Any] = {
    "quantise": {"tiers": ["mid", "full"]},
    "exits": {"head_width": None, "epochs": 3, "learning_rate": 1e-2},
}

pytestmark = pytest.mark.skipif(not int8.available(), reason="this torch build has no int8 kernel")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, data, `run` and `bundle`. Not to be changed: copy it."""
    return build_in(tmp_path_factory.mktemp("int8"), CHANGES)


@pytest.fixture
def bundle(built: Path) -> Bundle:
    return load_bundle(built / "bundle")


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to change."""
    return Path(shutil.copytree(built / "bundle", tmp_path / "bundle"))


def with_flag(folder: Path, tier: str, served: bool) -> None:
    """Say in a sealed bundle that a tier is in int8, or is not."""
    card = folder / "tiers" / tier / "tier.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"int8": served}))
    seal(folder)


def test_the_named_tiers_are_served_in_int8_and_certified_so(bundle: Bundle) -> None:
    assert [tier.int8 for tier in bundle.tiers] == [False, True, True]
    certificate = bundle.certificate
    assert bundle.dtype == DTYPE and certificate is not None
    assert certificate.conditions.dtype == DTYPE and certificate.certified > 0
    assert bundle.costs is not None
    assert any("against it in float32" in told for told in certificate.assumptions)
    # held to the full tier in float32, even the full tier alone is tested
    assert 0.0 < certificate.front[0].p_value <= certificate.delta


def test_weights_in_the_bundle_are_the_ones_that_were_trained(built: Path) -> None:
    for name, step in {"mid": "mid", "full": "exits"}.items():
        kept, trained = (built / p for p in (f"bundle/tiers/{name}", f"run/{step}/tier"))
        assert (kept / "model.safetensors").read_bytes() == (
            trained / "model.safetensors"
        ).read_bytes()
    model = AutoModelForSequenceClassification.from_pretrained(built / "bundle/tiers/full")
    assert sum(each.numel() for each in model.parameters()) > 0


def test_outcomes_hold_the_answers_of_the_full_tier_in_float32(built: Path, bundle: Bundle) -> None:
    table = load_table(context_of(recipe_in(built, CHANGES), built / "run"), "certify")
    kept = bundle.outcomes["certify"]
    assert not table.worth.own and not kept.worth.own
    assert np.array_equal(table.reference, kept.reference)
    texts = ["the great plot", "a dull cast", "very warm story and film the a"] * 20
    tokens = token_rows.tokenize(bundle.tokenizer, texts, max_length=16)
    unknown = np.full(len(texts), -1, np.int32)
    plain = replace(bundle, tiers=tuple(reference_of(tier) for tier in bundle.tiers))
    found = outcomes(bundle, tokens, unknown, 32)
    expected = outcomes(plain, tokens, unknown, 32)
    assert expected.worth.own
    assert np.array_equal(found.reference, expected.predictions[:, -1])
    assert not np.array_equal(found.reliability, expected.reliability)


def test_the_step_tells_what_int8_does_to_each_exit(built: Path, bundle: Bundle) -> None:
    figures = context_of(recipe_in(built, CHANGES), built / "run").figures("quantise")
    assert list(figures) == ["mid", "full"]
    for name, told in figures.items():
        depths = next(tier.depths for tier in bundle.tiers if tier.name == name)
        assert [each["depth"] for each in told["exits"]] == list(depths)
        assert all(0.9 <= each["agreement"] <= 1.0 for each in told["exits"])
        assert told["exits"][0]["agreement"] == 1.0  # on the embeddings, which stay as they are
        assert told["time_ratio"] > 0.0 and told["rows"] == 80
    card = (built / "bundle" / "README.md").read_text()
    assert "In int8: the layers of the full tier." in card and "full alone, float32" in card


def test_reports_hold_answers_to_the_full_tier_in_float32(bundle: Bundle) -> None:
    table = bundle.outcomes["certify"]
    other = reclassified(table, in_float32=1 - table.predictions[:, -1])  # two labels
    rows = report(bundle, bundle.policy, other)["rows"]
    assert [row["name"] for row in rows[-2:]] == ["full alone", "full alone, float32"]
    assert rows[-2]["agreement"] == 0.0 and rows[-1]["agreement"] == 1.0
    assert rows[-1]["accuracy"] == pytest.approx(1.0 - rows[-2]["accuracy"])
    assert rows[-1]["work"] == rows[-2]["work"]


def test_a_bundle_that_is_quantised_otherwise_is_refused(folder: Path) -> None:
    with_flag(folder, "mid", False)
    with pytest.raises(BundleError, match=r"tiers/mid/tier.json: is not the one that was"):
        load_bundle(folder)
    assert load_bundle(folder, uncertified=True).dtype == "float32, int8 in full"
    with_flag(folder, "full", False)
    with pytest.raises(BundleError, match=r"tiers/full/tier.json: is not the one that was"):
        load_bundle(folder)


def test_a_bundle_in_int8_is_refused_in_another_dtype(built: Path) -> None:
    with pytest.raises(BundleError, match=r"tiers/mid/tier.json.*in int8.*bfloat16"):
        AdaptivePipeline.from_config(built / "bundle", dtype="bfloat16", uncertified=True)


def test_a_bundle_in_int8_is_certified_anew_against_float32(bundle: Bundle, folder: Path) -> None:
    words = ["great", "dull", "film", "story", "warm", "poor", "very", "the", "cast"]
    texts = [" ".join(np.random.default_rng(i).choice(words, 6)) for i in range(200)]
    tokens = token_rows.tokenize(bundle.tokenizer, texts, max_length=16)
    unknown = np.full(len(texts), -1, np.int32)
    found = recertify(bundle, tokens, unknown, Target("agreement", 0.2))
    assert found.certificate is not None and found.certificate.conditions.dtype == DTYPE
    assert found.certificate.front[0].p_value > 0.0
    assert not found.outcomes["certify"].worth.own
    recertify_bundle(found, folder, card=render_card(found))
    assert load_bundle(folder).certificate is not None


def test_a_bundle_in_int8_survives_saving(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "again", card=render_card(bundle), recipe="name: x\n")
    again = load_bundle(tmp_path / "again")
    assert again.certificate is not None and again.dtype == DTYPE
    assert again.tiers[2].parameter_count() == reference_of(again.tiers[2]).parameter_count()


def test_a_recipe_that_quantises_nothing_has_no_such_step(built: Path) -> None:
    names = [step.name for step in steps_of(context_of(recipe_in(built), built / "run"))]
    assert "quantise" not in names
    named = {
        step.name: step.after for step in steps_of(context_of(recipe_in(built, CHANGES), built))
    }
    assert "quantise" in named["outcomes"] and "exits" in named["quantise"]
    assert load_tier(built / "run" / "exits" / "tier").source is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"quantise": {"tiers": ["mid"]}, "mid": None}, "the recipe has no mid tier"),
        ({"quantise": {"tiers": ["tiny"]}}, "tiny is a bag"),
        ({"quantise": {"tiers": ["full", "full"]}}, "a tier stands twice"),
        ({**CHANGES, "cost": {"dtype": "bfloat16"}}, "does not go with quantise.tiers"),
    ],
)
def test_a_recipe_that_cannot_be_quantised_says_why(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        recipe_in(tmp_path, changes)


def test_a_full_tier_that_int8_spoils_is_told_of() -> None:
    missed = [Found(Policy((0,), (ALWAYS,)), 1.0, 0.02)]
    targets = [Target("agreement", 0.01)]
    assert _best(missed, targets, exact=True) is missed[0]
    with pytest.raises(TargetError, match=r"out of `quantise.tiers`"):
        _best(missed, targets, exact=False)
