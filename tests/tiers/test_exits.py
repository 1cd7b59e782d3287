"""A tier runs its segments and answers at its exits."""

from __future__ import annotations

import pytest
import torch
from tiny_transformers import own_logits, packed, tiny_backbone, tiny_rows

from adaptive.tiers.bag import Bag
from adaptive.tiers.tier import Tier

LABELS = ("a", "b", "c")


@torch.no_grad()
def test_the_last_exit_can_answer_with_the_models_own_head() -> None:
    tier = Tier("full", tiny_backbone("bert"), (0, 1, 4), LABELS, own_head=True).eval()
    batch = packed(tiny_rows())
    state = tier.embed(batch)
    for exit in range(3):
        state = tier.advance(state, exit)
        logits, pooled = tier.answer(state, exit)
        assert logits.shape == (4, 3) and pooled.shape == (4, 32)
    assert len(tier.heads) == 2
    torch.testing.assert_close(logits, own_logits(tier.backbone, batch))


@torch.no_grad()
def test_each_exit_has_its_own_head_over_its_own_depth() -> None:
    backbone = tiny_backbone("bert")
    tier = Tier("full", backbone, (1, 4), LABELS, head_width=5).eval()
    batch = packed(tiny_rows())
    state = backbone.run(backbone.embed(batch), 0, 1)
    first = tier.advance(tier.embed(batch), 0)
    torch.testing.assert_close(first.hidden, state.hidden)
    expected = tier.heads[1](backbone.pool(backbone.run(state, 1, 4)))
    torch.testing.assert_close(tier.answer(tier.advance(first, 1), 1)[0], expected)


def test_work_is_counted_by_segment() -> None:
    backbone = tiny_backbone("bert")
    tier = Tier("full", backbone, (0, 1, 4), LABELS, own_head=True)
    layer = backbone.layer_work(0)
    assert [tier.segment_work(exit) for exit in range(3)] == [0, layer, 3 * layer]
    assert [tier.head_work(exit) for exit in range(3)] == [96, 96, 32 * 32 + 96]
    bag = Tier("tiny", Bag(60, 8, 4), (0,), LABELS)
    assert (bag.embed_work(), bag.segment_work(0), bag.head_work(0)) == (16, 0, 24)


def test_heads_take_the_dtype_of_their_backbone() -> None:
    tier = Tier("tiny", Bag(60, 8).to(torch.bfloat16), (0,), LABELS)
    logits, _ = tier.answer(tier.embed(packed(tiny_rows())), 0)
    assert logits.dtype == torch.bfloat16


@pytest.mark.parametrize("depths", [(), (0, 3), (4, 4), (2, 1, 4), (-1, 4), (0, 5)])
def test_depths_must_ascend_to_the_last_layer(depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="exits of tier 'full'"):
        Tier("full", tiny_backbone("bert"), depths, LABELS)


def test_a_bag_cannot_answer_with_its_own_head() -> None:
    with pytest.raises(ValueError, match="no head of its own"):
        Tier("tiny", Bag(60, 8), (0,), LABELS, own_head=True)
