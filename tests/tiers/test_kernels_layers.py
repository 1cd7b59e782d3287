"""The Triton kernels of a layer compute what torch computes; see `test_kernels_triton`."""

# ruff: noqa: E402 - what imports Triton stands behind the question whether it is there
from __future__ import annotations

import numpy as np
import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton")

from tiny_fused import attend, by_fused, pruned
from tiny_transformers import packed, tiny_backbone, tiny_rows
from torch.nn import functional

from adaptive.tiers import calls, fused
from adaptive.tiers.layer_kernels import add_layer_norm, embed_rows, row_attention
from adaptive.tiers.state import Packed

# The interpreter multiplies the bits of bfloat16, and attention in float32 would spill on a GPU.
SERVED = torch.float32 if DEVICE == "cpu" else torch.bfloat16
DTYPES = pytest.mark.parametrize("dtype", [SERVED, torch.float16], ids=str)


def layout_of(*lengths: int) -> Packed:
    return Packed(np.array(lengths), torch.device(DEVICE))


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    error = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    return {"atol": error, "rtol": error}


@DTYPES
@pytest.mark.parametrize(
    ("heads", "size", "lengths"),
    [
        (3, 32, (7, 1, 0, 16)),
        (2, 64, (17, 0, 3, 32)),
        (1, 16, (64, 33, 5)),
        (2, 32, (100, 1, 128, 65, 0)),
        (2, 8, (9, 4)),
        (3, 48, (20,)),
        (1, 128, (0, 12)),
    ],
)
@torch.inference_mode()
def test_each_token_sees_its_row(
    heads: int, size: int, lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    layout = layout_of(*lengths)
    qkv = torch.randn(sum(lengths), 3 * heads * size, device=DEVICE).to(dtype)
    found = row_attention(qkv, layout.ends, layout.longest, heads, size**-0.5)
    expected = attend(qkv.float(), layout, heads, size**-0.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, **tolerance(dtype))
    told = row_attention(qkv, layout.ends, 128, heads, size**-0.5)  # no row is longer
    torch.testing.assert_close(told.float(), expected, **tolerance(dtype))


@torch.inference_mode()
def test_large_scores_and_rows_of_nothing() -> None:
    layout = layout_of(5, 3)
    qkv = 30 * torch.randn(8, 3 * 16, device=DEVICE).to(SERVED)
    found = row_attention(qkv, layout.ends, 5, 1, 1.0)
    expected = attend(qkv.float(), layout, 1, 1.0)
    torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=1e-2)
    nothing = layout_of()
    assert row_attention(qkv[:0], nothing.ends, 0, 1, 1.0).shape == (0, 16)
    nothing = layout_of(0, 0)
    assert row_attention(qkv[:0], nothing.ends, 0, 1, 1.0).shape == (0, 16)


@DTYPES
@pytest.mark.parametrize("width", [16, 20, 384, 768, 1030])
@torch.inference_mode()
def test_a_sum_is_normed_as_torch_does(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, residual = (4 * torch.randn(2, 9, width, device=DEVICE) + 1).to(dtype)
    weight, bias = torch.randn(2, width, device=DEVICE).to(dtype)
    found = add_layer_norm(x, residual, weight, bias, 1e-12)
    expected = functional.layer_norm(x + residual, (width,), weight, bias, 1e-12)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, **tolerance(dtype))
    assert add_layer_norm(x[:0], residual[:0], weight, bias, 1e-12).shape == (0, width)


@DTYPES
@pytest.mark.parametrize("kinds", [0, 1, 2])
@pytest.mark.parametrize("width", [20, 384])
@torch.inference_mode()
def test_rows_are_embedded_as_torch_does(width: int, kinds: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layout = layout_of(3, 0, 1, 17, 4)
    ids = torch.randint(0, 50, (25,), device=DEVICE)
    types = torch.randint(0, 2, (25,), device=DEVICE) if kinds == 2 else None
    word, place = (torch.randn(n, width, device=DEVICE).to(dtype) for n in (50, 17))
    kind = torch.randn(kinds, width, device=DEVICE).to(dtype) if kinds else None
    weight, bias = torch.randn(2, width, device=DEVICE).to(dtype)
    total = word[ids]
    if kind is not None:
        total = total + (kind[0] if types is None else kind[types])
    total = total + place[layout.positions]
    expected = functional.layer_norm(total, (width,), weight, bias, 1e-12)
    for longest in (17, 32):
        found = embed_rows(
            ids, types, layout.ends, longest, (word, place, kind), (weight, bias, 1e-12)
        )
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, **tolerance(dtype))


@pytest.mark.skipif(DEVICE == "cuda", reason="see test_tiers_fused")
@pytest.mark.parametrize(("name", "cut"), [("bert", True), ("electra", False), ("roberta", True)])
@torch.inference_mode()
def test_whole_models_give_the_same_states(
    name: str, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = pruned(tiny_backbone(name)) if cut else tiny_backbone(name)
    batch = packed(tiny_rows((9, 1, 17)))
    state = backbone.embed(batch)
    expected = backbone.run(state, 0, 2).hidden
    monkeypatch.setattr(fused, "has_fused", lambda *_: True)
    embedded = fused.fused_embed(backbone, batch, state.layout)
    assert (embedded is None) == (backbone.family.embed is not calls.embed_encoder)
    if embedded is not None:
        torch.testing.assert_close(embedded, state.hidden, atol=1e-5, rtol=1e-5)
    found = by_fused(backbone, state, 0, 2, fused.ON_GPU).hidden
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
