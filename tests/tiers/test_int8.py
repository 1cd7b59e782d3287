"""Layers in int8: near the float32 ones, each text by itself, the same numbers every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import CONFIGS, packed, tiny_backbone, tiny_rows
from torch import nn

from adaptive.errors import BundleError, FamilyError
from adaptive.tiers import int8
from adaptive.tiers.backbone import Backbone, linear_work
from adaptive.tiers.bag import Bag
from adaptive.tiers.int8 import Int8Linear, quantise
from adaptive.tiers.store import load_tier, reference_of, save_tier
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch

FAMILIES = ("bert", "distilbert", "roberta", "modernbert", "qwen3", "mpnet", "deberta-v2")
LABELS = ("bad", "good", "so-so")

pytestmark = pytest.mark.skipif(not int8.available(), reason="this torch build has no int8 kernel")


def layer(inputs: int, outputs: int, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias)


def states(backbone: Backbone, batch: TokenBatch) -> torch.Tensor:
    """Pooled hidden states behind the last layer."""
    with torch.inference_mode():
        return backbone.pool(backbone.run(backbone.embed(batch), 0, backbone.layers))


def tier_in(folder: Path, family: str = "bert") -> Path:
    save_tier(Tier("full", tiny_backbone(family), (0, 2, 4), LABELS, own_head=True), folder)
    return folder


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_layer_is_as_near_as_its_steps_allow(
    inputs: int, outputs: int, rows: int, bias: bool
) -> None:
    linear = layer(inputs, outputs, bias=bias)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        error = (Int8Linear(linear)(x) - linear(x)).abs()
    weight, most = linear.weight.detach().abs(), x.abs().amax(1, keepdim=True)
    half_x, half_w = most / 254, weight.amax(1) / 126
    sums = half_x * weight.sum(1) + (x.abs() + half_x).sum(1, keepdim=True) * half_w
    assert (error <= sums + 1e-5).all()


def test_a_layer_sums_its_largest_products_without_cutting_them_off() -> None:
    # pairs of products in 16 bits are what kernels without VNNI have room for
    linear = layer(64, 8, bias=False)
    nn.init.ones_(linear.weight)
    with torch.inference_mode():
        for sign in (1.0, -1.0):
            found = Int8Linear(linear)(torch.full((1, 64), sign))
            torch.testing.assert_close(found, torch.full((1, 8), 64.0 * sign))


def test_a_token_of_zeros_and_an_output_of_zeros_come_to_the_bias() -> None:
    linear = layer(16, 4)
    with torch.no_grad():
        linear.weight[2] = 0.0
        found = Int8Linear(linear)(torch.stack([torch.zeros(16), torch.ones(16)]))
    torch.testing.assert_close(found[0], linear.bias.detach())
    torch.testing.assert_close(found[1, 2], linear.bias.detach()[2])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_token_comes_to_the_same_bits_in_any_company(lengths: list[int]) -> None:
    found = Int8Linear(layer(48, 32))
    torch.manual_seed(len(lengths))
    # magnitudes differ by far, so that a shared range would be seen
    x = torch.randn(sum(lengths), 48) * 10.0 ** torch.randint(-3, 4, (sum(lengths), 1))
    order = torch.randperm(len(x))
    with torch.inference_mode():
        together = found(x)
        assert torch.equal(found(x[order]), together[order])
        assert torch.equal(found(x.unsqueeze(0))[0], together)
        assert torch.equal(torch.cat([found(part) for part in x.split(lengths)]), together)


def test_a_layer_refuses_to_lose_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="no gradient"):
        Int8Linear(layer(8, 8))(torch.ones(1, 8, requires_grad=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_in_int8_stays_near_its_float32_states(family: str) -> None:
    plain, small = tiny_backbone(family), tiny_backbone(family)
    quantise(small.blocks)
    batch = packed(tiny_rows())
    assert 0.0 < distance(states(small, batch), states(plain, batch)) < 0.06
    with torch.inference_mode():
        logits = [each.classify(each.run(each.embed(batch), 0, 4)) for each in (small, plain)]
    assert distance(*logits) < 0.15


@pytest.mark.parametrize("family", CONFIGS)
def test_every_linear_layer_of_a_model_is_replaced_and_counts_as_before(family: str) -> None:
    backbone = tiny_backbone(family)
    before = [backbone.layer_work(i) for i in range(4)], backbone.head_work()
    quantise(backbone.blocks)
    assert not any(isinstance(part, nn.Linear) for part in backbone.blocks.modules())
    assert ([backbone.layer_work(i) for i in range(4)], backbone.head_work()) == before
    assert linear_work(backbone.model) > sum(before[0])  # the head's are still there


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_comes_to_the_same_in_any_company(family: str) -> None:
    backbone = tiny_backbone(family)
    quantise(backbone.blocks)
    rows = tiny_rows((12, 5, 1, 9, 30, 2))
    together = states(backbone, packed(rows))
    alone = torch.cat([states(backbone, packed([row])) for row in rows])
    backwards = states(backbone, packed(rows[::-1])).flip(0)
    # attention rounds by company, as in float32, and now and then that moves a number by a step
    for found in (alone, backwards):
        assert distance(found, together) < 2e-3


def test_a_tier_in_int8_holds_no_float_weights_of_its_layers(tmp_path: Path) -> None:
    tier = load_tier(tier_in(tmp_path), int8=True)
    assert isinstance(tier.backbone, Backbone)
    assert max(p.ndim for p in tier.backbone.blocks.parameters()) == 1
    assert tier.source == tmp_path


def test_a_tier_in_int8_is_written_with_its_float_weights(tmp_path: Path) -> None:
    first = tier_in(tmp_path / "first")
    save_tier(load_tier(first, int8=True), tmp_path / "second")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "second" / name).read_bytes() == (first / name).read_bytes()
    batch = packed(tiny_rows())
    again, plain = load_tier(tmp_path / "second"), load_tier(first)
    assert isinstance(again.backbone, Backbone) and isinstance(plain.backbone, Backbone)
    assert again.source is not None and plain.source is None
    quick = load_tier(first, int8=True).backbone
    assert isinstance(quick, Backbone)
    assert torch.equal(states(again.backbone, batch), states(quick, batch))
    whole = reference_of(again).backbone
    assert isinstance(whole, Backbone)
    assert torch.equal(states(whole, batch), states(plain.backbone, batch))


def test_a_card_from_before_int8_still_loads(tmp_path: Path) -> None:
    card = tier_in(tmp_path) / "tier.json"
    values = json.loads(card.read_text())
    assert values.pop("int8") is False
    card.write_text(json.dumps(values))
    assert load_tier(tmp_path).source is None


def test_what_cannot_run_in_int8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tier_in(tmp_path / "full")
    with pytest.raises(BundleError, match=r"tier.json.*found cpu and bfloat16"):
        load_tier(folder, dtype=torch.bfloat16, int8=True)
    with pytest.raises(FamilyError, match="found meta and float32"):
        quantise(tiny_backbone("bert").to("meta").blocks)
    save_tier(Tier("tiny", Bag(60, 16, 0), (0,), LABELS), tmp_path / "bag")
    with pytest.raises(BundleError, match="a bag has no layers"):
        load_tier(tmp_path / "bag", int8=True)
    monkeypatch.setattr(int8, "ENGINE", "none")
    with pytest.raises(BundleError, match="need torch's none kernels"):
        load_tier(folder, int8=True)


def test_quantising_leaves_torchs_engine_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(e for e in torch.backends.quantized.supported_engines if e != int8.ENGINE)
    monkeypatch.setattr(torch.backends.quantized, "engine", other)
    Int8Linear(layer(8, 8))
    assert torch.backends.quantized.engine == other
