"""Prefixes: seen by every token, in every family whose attention takes them, kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_builds import write_model
from tiny_transformers import packed, segment_logits, tiny_backbone, tiny_rows
from torch.nn import functional

from adaptive.errors import BuildError, FamilyError
from adaptive.tiers.attention import Sight, attend
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.families import FAMILIES
from adaptive.tiers.graphs import check_family
from adaptive.tiers.prefixes import Prefix, prefix_of
from adaptive.tiers.source import load_backbone
from adaptive.tiers.state import Packed
from adaptive.tiers.store import load_tier, save_tier
from adaptive.tiers.surgery import Shape, add_prefix, shrink, sizes_of
from adaptive.tiers.tier import Tier

PACKED = sorted(name for name, family in FAMILIES.items() if family.packed)


def prefixed(family: str, tokens: int = 5) -> Backbone:
    """A tiny model with a prefix that matters."""
    backbone = tiny_backbone(family)
    torch.manual_seed(2)
    for each in add_prefix(backbone, tokens):
        torch.nn.init.normal_(each.keys)
        torch.nn.init.normal_(each.values)
    return backbone.eval()


def logits(backbone: Backbone, rows: list[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return segment_logits(backbone, packed(rows), (2,))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_attention_sees_the_prefix_and_what_it_saw_before(causal: bool, window: int | None) -> None:
    torch.manual_seed(0)
    lengths, heads, size, tokens = [7, 7, 3, 20], 2, 4, 5
    module = torch.nn.Module()
    prefix = Prefix(heads, tokens, size)
    module.add_module("prefix", prefix)
    total = sum(lengths)
    query, key, value = (torch.randn(1, total, heads, size).transpose(1, 2) for _ in range(3))
    layout = Packed(torch.tensor(lengths).numpy(), torch.device("cpu"))
    sight = Sight(layout, torch.float32, causal, window)
    found = attend(module, query, key, value, sight)[0][0]
    start = 0
    for length in lengths:
        q, k, v = (x[:, :, start : start + length] for x in (query, key, value))
        place = torch.arange(length)
        ahead = place - place[:, None]
        seen = torch.ones(length, length, dtype=torch.bool)
        if causal:
            seen &= ahead <= 0
        if window is not None:
            seen &= ahead.abs() <= window
        seen = functional.pad(seen, (tokens, 0), value=True)
        expected = functional.scaled_dot_product_attention(
            q,
            torch.cat([prefix.keys[None], k], 2),
            torch.cat([prefix.values[None], v], 2),
            attn_mask=seen,
        )
        torch.testing.assert_close(
            found[start : start + length], expected[0].transpose(0, 1), atol=1e-5, rtol=1e-4
        )
        start += length


@pytest.mark.parametrize("family", PACKED)
def test_an_answer_depends_on_the_prefix_and_not_on_batch_mates(family: str) -> None:
    rows, backbone = tiny_rows(), prefixed(family)
    together = logits(backbone, rows)
    assert backbone.prefix == 5
    for number, row in enumerate(rows):
        torch.testing.assert_close(
            logits(backbone, [row])[0], together[number], atol=1e-4, rtol=1e-3
        )
    assert not torch.allclose(together, logits(tiny_backbone(family), rows), atol=1e-2)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(PACKED)))
def test_a_family_whose_attention_takes_none_is_named(family: str) -> None:
    with pytest.raises(FamilyError, match=f"attention of a {family} model is its own"):
        add_prefix(tiny_backbone(family), 5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_cut_heads_take_their_keys_and_values_with_them(family: str) -> None:
    backbone = prefixed(family)
    sizes = sizes_of(backbone)
    kept = tuple(range(1, sizes.heads[0]))  # all but the first
    small = shrink(
        backbone, Shape((0, 2), (kept,) * 2, tuple(tuple(range(w)) for w in sizes.widths[:2]))
    )
    assert small.prefix == 5
    path = backbone.family.pruning.attention
    for layer, source in ((0, 0), (1, 2)):
        old = prefix_of(backbone.blocks[source].get_submodule(path))
        new = prefix_of(small.blocks[layer].get_submodule(path))
        assert old is not None and new is not None
        assert torch.equal(new.keys, old.keys[list(kept)])
        assert torch.equal(new.values, old.values[list(kept)])
    rows = tiny_rows()
    with torch.no_grad():
        for each in backbone.blocks:  # zeroed heads are heads that are not there
            matrix = each.get_submodule(backbone.family.pruning.attended).weight
            matrix[:, : matrix.shape[1] // sizes.heads[0]] = 0
        layers = [backbone.blocks[i] for i in (0, 2)]
        state = backbone.embed(packed(rows))
        step = backbone.family.prepare(backbone.body, state.hidden, state.layout)
        hidden = state.hidden
        for index, layer in zip((0, 2), layers, strict=True):
            hidden = step(index, layer, hidden)
        found = small.run(small.embed(packed(rows)), 0, 2).hidden
    torch.testing.assert_close(found, hidden, atol=1e-4, rtol=1e-3)


def test_a_tier_keeps_its_prefix_on_disk_and_in_int8(tmp_path: Path) -> None:
    backbone, rows = prefixed("bert"), tiny_rows()
    tier = Tier("full", backbone, (2, 4), ("a", "b", "c"), own_head=True)
    save_tier(tier, tmp_path)
    again, int8 = load_tier(tmp_path), load_tier(tmp_path, int8=True)
    for other, near in ((again, 1e-6), (int8, 0.2)):
        assert isinstance(other.backbone, Backbone) and other.backbone.prefix == 5
        torch.testing.assert_close(
            logits(other.backbone, rows), logits(backbone, rows), atol=near, rtol=near
        )
    assert again.most_tokens == 0  # no graph of a GPU is told of prefixes


def test_what_cannot_serve_a_prefix_says_so(tmp_path: Path) -> None:
    backbone = prefixed("bert")
    with pytest.raises(FamilyError, match="prefix, here of 5 tokens, are not exported"):
        check_family(backbone)
    with pytest.raises(FamilyError, match="not by its own forward"):
        backbone.model(input_ids=torch.arange(2, 6)[None])
    base = write_model(tmp_path / "base", labels=("a", "b", "c"))
    found = load_backbone(str(base), classes=3, labels=("a", "b", "c"))[0]
    add_prefix(found, 5)
    found.model.save_pretrained(base)
    with pytest.raises(BuildError, match="tier with a prefix"):
        load_backbone(str(base), classes=3, labels=("a", "b", "c"))
