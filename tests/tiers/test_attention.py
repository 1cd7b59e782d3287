"""Packed attention sees what each row by itself would see, by either way of computing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import packed, tiny_backbone, tiny_rows
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from adaptive.tiers import attention
from adaptive.tiers.attention import Sight, attend
from adaptive.tiers.state import Packed

LENGTHS = (33, 32, 32, 17, 16, 16, 5, 5, 1, 1, 9)  # sorted but for the last
SIGHTS = pytest.mark.parametrize("causal", [False, True])
WINDOWS = pytest.mark.parametrize("window", [None, 0, 1, 4, 15, 100])


def sight(causal: bool, window: int | None, lengths: tuple[int, ...] = LENGTHS) -> Sight:
    layout = Packed(np.array(lengths), torch.device("cpu"))
    return Sight(layout, torch.float32, causal, window)


def parts(tokens: int, seed: int = 0) -> list[torch.Tensor]:
    """Query, key, value [t, 2, 8]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, 2, 8, generator=generator) for _ in range(3)]


def row_by_row(given: list[torch.Tensor], causal: bool, window: int | None) -> torch.Tensor:
    """The plain definition, [t, 2, 8]."""
    done = []
    for query, key, value in zip(*(part.split(LENGTHS) for part in given), strict=True):
        scores = torch.einsum("ihd,jhd->hij", query, key) * 0.5
        ahead = torch.arange(len(key)) - torch.arange(len(query))[:, None]
        hidden = torch.zeros_like(ahead, dtype=torch.bool)
        if causal:
            hidden |= ahead > 0
        if window is not None:
            hidden |= ahead.abs() > window
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        done.append(torch.einsum("hij,jhd->ihd", weights, value))
    return torch.cat(done)


@SIGHTS
@WINDOWS
def test_blocks_compute_what_rows_would_alone(causal: bool, window: int | None) -> None:
    given = parts(sum(LENGTHS))
    found = attention._by_blocks(given, sight(causal, window), 0.0, 0.5)
    torch.testing.assert_close(found, row_by_row(given, causal, window), atol=1e-5, rtol=1e-5)


@SIGHTS
@WINDOWS
def test_gradients_are_finite_and_those_of_rows_alone(causal: bool, window: int | None) -> None:
    found, expected = [], []
    for run, kept in (
        (lambda x: attention._by_blocks(x, sight(causal, window), 0.0, 0.5), found),
        (lambda x: row_by_row(x, causal, window), expected),
    ):
        given = [part.requires_grad_() for part in parts(sum(LENGTHS))]
        run(given).square().sum().backward()
        kept += [part.grad for part in given]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def like_torch(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    others: torch.Tensor,
    longest: int,
    other_longest: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """What torch says its variable-length attention does."""
    assert starts.dtype == torch.int32 and starts is others
    assert longest == other_longest == int(starts.diff().max())
    assert all(part.is_contiguous() for part in (query, key, value))
    left, right = window_size
    done = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        place = torch.arange(stop - start)
        ahead = place - place[:, None]
        seen = torch.ones_like(ahead, dtype=torch.bool)
        if left >= 0:
            seen &= -ahead <= left
        if right >= 0:
            seen &= ahead <= right
        row = (part[start:stop].transpose(0, 1) for part in (query, key, value))
        out = functional.scaled_dot_product_attention(*row, attn_mask=seen, scale=scale)
        done.append(out.transpose(0, 1))
    return torch.cat(done)


@SIGHTS
@WINDOWS
def test_the_kernel_for_gpus_is_asked_for_the_same(
    monkeypatch: pytest.MonkeyPatch, causal: bool, window: int | None
) -> None:
    monkeypatch.setattr(attention, "VARLEN", like_torch)
    given = parts(sum(LENGTHS))
    found = attention._by_kernel(given, sight(causal, window), 0.0, 0.5)
    torch.testing.assert_close(found, row_by_row(given, causal, window), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@SIGHTS
@WINDOWS
def test_the_kernel_for_gpus_computes_the_same(causal: bool, window: int | None) -> None:
    assert attention.VARLEN is not None
    given = [part.repeat(1, 1, 4).to("cuda", torch.bfloat16) for part in parts(sum(LENGTHS))]
    layout = Packed(np.array(LENGTHS), torch.device("cuda"))
    seen = Sight(layout, torch.bfloat16, causal, window)
    found = attention._by_kernel(given, seen, 0.0, 0.5)
    expected = attention._by_blocks(given, seen, 0.0, 0.5)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_shared_keys_are_seen_by_all_heads_of_their_group() -> None:
    query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in parts(12))
    every = attend(torch.nn.Module(), query, key[:, :1], value[:, :1], sight(False, None, (7, 5)))[
        0
    ]
    one = attend(
        torch.nn.Module(),
        query,
        key[:, :1].expand_as(key),
        value[:, :1].expand_as(value),
        sight(False, None, (7, 5)),
    )[0]
    assert every.shape == (1, 12, 2, 8)
    torch.testing.assert_close(every, one)


def test_rows_alike_in_length_share_a_call() -> None:
    widths = [(block.rows, block.width) for block in sight(False, None).blocks]
    assert widths == [(1, 48), (3, 32), (7, 16)]
    full = sight(False, None, (16, 16)).blocks[0]
    assert full.take is None and full.mask is None  # nothing to fill up, nothing to copy


def test_no_model_but_those_of_tiers_is_touched() -> None:
    backbone = tiny_backbone("bert")
    assert backbone.config._attn_implementation == attention.NAME
    other: Any = AutoModelForSequenceClassification.from_config(type(backbone.config)())
    assert other.config._attn_implementation == "sdpa"
    assert tiny_backbone("mpnet").config._attn_implementation != attention.NAME
    assert attention.NAME not in str(backbone.config.to_dict())


def test_a_row_without_tokens_takes_no_part() -> None:
    backbone = tiny_backbone("bert")
    rows = tiny_rows((5, 3))
    expected = backbone.run(backbone.embed(packed(rows)), 0, 4)
    batch = packed([rows[0], rows[0][:0], rows[1]])
    found = backbone.run(backbone.embed(batch), 0, 4)
    torch.testing.assert_close(found.hidden, expected.hidden)
    assert not backbone.pool(found)[1].any()
