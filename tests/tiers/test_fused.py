"""Layers in few kernels compute what the layers of transformers compute.

On a CPU torch takes the place of the kernels, which `test_kernels_layers` tries.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_fused import by_fused, pruned
from tiny_transformers import packed, segment_logits, tiny_backbone, tiny_rows
from torch import nn

from adaptive.tiers import fused
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.calls import prepare_encoder
from adaptive.tiers.families import FAMILIES
from adaptive.types import TokenBatch

NAMES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
EVERY_FAMILY = pytest.mark.parametrize("name", NAMES)
ROWS = (12, 5, 1, 33, 17, 60)


def test_all_families_with_plain_layers_are_fused() -> None:
    plain = {name for name, each in FAMILIES.items() if each.prepare is prepare_encoder}
    assert plain == set(NAMES) == set(fused._PATHS)


@EVERY_FAMILY
@pytest.mark.parametrize("cut", [False, True])
@torch.inference_mode()
def test_fused_layers_give_the_same_states(name: str, cut: bool) -> None:
    backbone = pruned(tiny_backbone(name)) if cut else tiny_backbone(name)
    state = backbone.embed(packed(tiny_rows(ROWS)))
    for depth in range(1, backbone.layers + 1):
        expected = backbone.run(state, 0, depth).hidden
        found = by_fused(backbone, state, 0, depth).hidden
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.05


@EVERY_FAMILY
@torch.inference_mode()
def test_bfloat16_stays_close(name: str) -> None:
    backbone = tiny_backbone(name).to(torch.bfloat16)
    state = backbone.embed(packed(tiny_rows(ROWS)))
    expected = backbone.run(state, 0, 4).hidden
    found = by_fused(backbone, state, 0, 4).hidden
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


@torch.inference_mode()
def test_other_activations_are_the_layers_own() -> None:
    backbone = tiny_backbone("bert", hidden_act="relu")
    state = backbone.embed(packed(tiny_rows(ROWS)))
    found = by_fused(backbone, state, 0, 4).hidden
    torch.testing.assert_close(found, backbone.run(state, 0, 4).hidden, atol=1e-5, rtol=1e-5)


def run_fused(backbone: Backbone) -> torch.Tensor:
    with torch.inference_mode():
        return by_fused(backbone, backbone.embed(packed(tiny_rows())), 0, 4).hidden


def test_joined_weights_are_held_once_and_stay_the_models_own(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    before = {name: each.clone() for name, each in backbone.state_dict().items()}
    parameters = dict(backbone.named_parameters())
    run_fused(backbone)
    attention = backbone.blocks[0].attention.self
    linears = (attention.query, attention.key, attention.value)
    weight, bias = fused.joined(linears)
    assert weight.shape == (96, 32) and bias.shape == (96,)
    for i, linear in enumerate(linears):
        assert weight[32 * i].data_ptr() == linear.weight.data_ptr()
        assert bias[32 * i].data_ptr() == linear.bias.data_ptr()
    assert weight.untyped_storage().nbytes() == 3 * 32 * 32 * 4
    after = dict(backbone.named_parameters())
    assert after.keys() == parameters.keys()
    assert all(each is parameters[name] for name, each in after.items())
    for name, each in backbone.state_dict().items():
        assert torch.equal(each, before[name])
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    for name, each in load_file(tmp_path / "weights.safetensors").items():
        assert torch.equal(each, before[name])


def test_what_changes_the_weights_changes_the_joined_ones() -> None:
    backbone, other = tiny_backbone("bert"), tiny_backbone("bert")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    expected = run_fused(other)
    assert not torch.allclose(run_fused(backbone), expected)
    for assign in (False, True):  # in their places, and in others
        changed = copy.deepcopy(backbone)
        run_fused(changed)
        changed.load_state_dict(other.state_dict(), assign=assign)
        torch.testing.assert_close(run_fused(changed), expected)
    changed = copy.deepcopy(backbone)
    changed.blocks[0].attention.self.key = copy.deepcopy(other.blocks[0].attention.self.key)
    assert not torch.allclose(run_fused(changed), run_fused(backbone))
    half = backbone.to(torch.bfloat16)
    assert run_fused(half).dtype == torch.bfloat16


def test_a_model_learns_after_it_ran_fused() -> None:
    backbone, other = tiny_backbone("bert"), tiny_backbone("bert")
    run_fused(backbone)
    batch = packed(tiny_rows())
    for each in (backbone, other):
        optimizer = torch.optim.AdamW(each.parameters(), lr=0.01)
        segment_logits(each, batch, ()).square().sum().backward()
        optimizer.step()
    assert torch.equal(run_fused(backbone), run_fused(other))
    for one, two in zip(backbone.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@torch.inference_mode()
def test_weights_that_were_made_in_inference_mode_are_joined_too() -> None:
    backbone = tiny_backbone("bert")
    state = backbone.embed(packed(tiny_rows()))
    expected = backbone.run(state, 0, 4).hidden
    torch.testing.assert_close(by_fused(backbone, state, 0, 4).hidden, expected)


@torch.inference_mode()
def test_layers_with_adapters_run_as_they_are() -> None:
    class Adapted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    backbone = tiny_backbone("bert")
    state = backbone.embed(packed(tiny_rows()))
    plain = backbone.run(state, 0, 4).hidden
    value = backbone.blocks[1].attention.self.value
    value.__class__ = Adapted
    expected = backbone.run(state, 0, 4).hidden
    assert not torch.allclose(plain, expected)
    found = by_fused(backbone, state, 0, 4).hidden
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_fused_on_a_cpu_or_where_gradients_are_asked_for() -> None:
    backbone = tiny_backbone("bert").to(torch.bfloat16)
    batch = packed(tiny_rows())
    for context in (torch.inference_mode(), torch.enable_grad()):
        with context:
            state = backbone.embed(batch)
            assert not fused.has_fused(backbone, state.hidden)
            assert fused.fused_embed(backbone, batch, state.layout) is None


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@needs_gpu
@EVERY_FAMILY
@pytest.mark.parametrize("longest", [9, 60, 200])
def test_a_gpu_gives_the_same_states(name: str, longest: int) -> None:
    assert_same_on_gpu(tiny_backbone(name, max_position_embeddings=256), longest)


@needs_gpu
@pytest.mark.parametrize("longest", [17, 128, 129])
def test_so_it_does_of_pruned_models_with_larger_heads(longest: int) -> None:
    large = {"hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 256}
    assert_same_on_gpu(pruned(tiny_backbone("bert", **large)), longest)


def assert_same_on_gpu(backbone: Backbone, longest: int) -> None:
    batch = packed(tiny_rows((5, 1, longest, 9)))
    types = (torch.arange(len(batch.ids)) % 3 == 0).long()
    batch = TokenBatch(batch.ids.cuda(), batch.lengths, types.cuda())
    for dtype in (torch.bfloat16, torch.float16):
        backbone = backbone.to("cuda", dtype).eval()
        with torch.no_grad():  # by the layers of transformers
            state = backbone.embed(batch)
            expected = backbone.run(state, 0, backbone.layers).hidden
        with torch.inference_mode():
            assert fused.has_fused(backbone, state.hidden)
            state = backbone.embed(batch)
            found = backbone.run(state, 0, backbone.layers).hidden
        error = (found.float() - expected.float()).norm() / expected.float().norm()
        assert error < (0.03 if dtype == torch.bfloat16 else 0.004)
