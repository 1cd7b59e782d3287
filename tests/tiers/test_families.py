"""Segments run one after another give the very logits of the model's own forward."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_transformers import (
    CONFIGS,
    DROPOUTS,
    own_logits,
    packed,
    segment_logits,
    tiny_backbone,
    tiny_config,
    tiny_rows,
)

from adaptive.errors import FamilyError
from adaptive.tiers.families import FAMILIES, family_of
from adaptive.tiers.state import State

EVERY_FAMILY = pytest.mark.parametrize("name", CONFIGS)


def test_every_family_of_the_table_is_tried_here() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@EVERY_FAMILY
@pytest.mark.parametrize("cuts", [(), (2,), (1, 2, 3), (0, 3)])
@torch.no_grad()
def test_segments_give_the_logits_of_the_whole(name: str, cuts: tuple[int, ...]) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows())
    expected = own_logits(backbone, batch)
    assert expected.std() > 0.05
    torch.testing.assert_close(segment_logits(backbone, batch, cuts), expected)


@EVERY_FAMILY
@torch.no_grad()
def test_batch_mates_and_their_order_do_not_change_an_answer(name: str) -> None:
    backbone = tiny_backbone(name)
    rows = tiny_rows((12, 5, 1, 9, 17, 33, 16, 1, 16, 32))
    alone = torch.cat([own_logits(backbone, packed([row])) for row in rows])
    for order in (range(10), (4, 5, 6, 9, 8, 0, 1), (2,), (2, 7), (5, 9, 4, 8, 6, 0, 3, 1, 7, 2)):
        found = segment_logits(backbone, packed([rows[i] for i in order]), (1, 3))
        torch.testing.assert_close(found, alone[list(order)], atol=1e-5, rtol=1e-5)


@EVERY_FAMILY
@torch.no_grad()
def test_selecting_rows_midway_keeps_their_answers(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows())
    expected = own_logits(backbone, batch)
    state = backbone.run(backbone.embed(batch), 0, 1)
    state = state.select(np.array([3, 1, 2]))
    assert state.hidden.shape[:2] == ((1, 15) if backbone.family.packed else (3, 9))
    state = backbone.run(state, 1, 3).select(np.array([2, 1]))
    assert state.hidden.shape[:2] == ((1, 6) if backbone.family.packed else (2, 5))
    found = backbone.classify(backbone.run(state, 3, 4))
    torch.testing.assert_close(found, expected[[2, 1]], atol=1e-5, rtol=1e-5)


@EVERY_FAMILY
@torch.no_grad()
def test_batches_joined_midway_keep_their_answers(name: str) -> None:
    backbone = tiny_backbone(name)
    rows = tiny_rows((12, 5, 1, 9, 17))
    expected = own_logits(backbone, packed(rows))
    parts = [
        backbone.run(backbone.embed(packed(part)), 0, 1) for part in (rows[:1], rows[1:3], rows[3:])
    ]
    found = backbone.classify(backbone.run(State.join(parts), 1, 4))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@EVERY_FAMILY
@torch.no_grad()
def test_bfloat16_stays_close_to_the_whole(name: str) -> None:
    backbone = tiny_backbone(name).to(torch.bfloat16)
    batch = packed(tiny_rows())
    found = segment_logits(backbone, batch, (1, 3))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, own_logits(backbone, batch), atol=0.03, rtol=0.03)


@EVERY_FAMILY
def test_rows_of_unlike_length_learn_as_the_whole_does(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows((12, 5, 1, 9, 17)))
    found = []
    for logits in (own_logits(backbone, batch), segment_logits(backbone, batch, (1, 2))):
        backbone.zero_grad()
        logits.square().sum().backward()
        found.append(
            {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
        )
    assert found[0].keys() == found[1].keys()
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient, atol=1e-3, rtol=1e-3, msg=path)


@EVERY_FAMILY
def test_training_drops_and_learns_as_the_whole_does(name: str) -> None:
    known = vars(tiny_config(name))
    drops = {key: rate for key, rate in DROPOUTS.items() if key in known}
    backbone = tiny_backbone(name, **drops).train()
    # Rows that no kernel has to fill up: dropout draws in the order of the model's own forward.
    batch = packed(tiny_rows((16, 16, 16)) if backbone.family.packed else tiny_rows())

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        backbone.zero_grad()
        logits.square().sum().backward()
        found = backbone.embedding_table.grad
        assert found is not None
        return found.clone()

    torch.manual_seed(3)
    expected = own_logits(backbone, batch)
    torch.manual_seed(3)
    found = segment_logits(backbone, batch, (1, 2))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found), gradient(expected), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(segment_logits(backbone, batch, (1, 2)), expected)


@EVERY_FAMILY
@torch.no_grad()
def test_pooling_sees_real_tokens_only(name: str) -> None:
    backbone = tiny_backbone(name)
    rows = tiny_rows()
    state = backbone.run(backbone.embed(packed(rows)), 0, 2)
    pooled = backbone.pool(state)
    for i, row in enumerate(rows):
        alone = backbone.run(backbone.embed(packed([row])), 0, 2)
        tokens = alone.hidden[0]
        expected = tokens[-1] if backbone.family.causal else tokens.mean(0)
        torch.testing.assert_close(pooled[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@torch.no_grad()
def test_padding_ids_inside_a_text_are_read_as_transformers_reads_them(name: str) -> None:
    backbone = tiny_backbone(name)
    pad = backbone.config.pad_token_id
    rows = [torch.tensor([5, pad, 7, pad]), torch.tensor([pad]), torch.tensor([4, 5, 6, 7, 8])]
    batch = packed(rows)
    torch.testing.assert_close(segment_logits(backbone, batch, (2,)), own_logits(backbone, batch))


@pytest.mark.parametrize("name", ["bert", "electra"])
@torch.no_grad()
def test_segment_ids_of_pairs_are_used(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows())
    types = torch.cat([(torch.arange(length) > 3).long() for length in batch.lengths])
    pairs = replace(batch, types=types)
    found = segment_logits(backbone, pairs, (2,))
    torch.testing.assert_close(found, own_logits(backbone, pairs))
    assert not torch.allclose(found, segment_logits(backbone, batch, (2,)))


@EVERY_FAMILY
@torch.no_grad()
def test_the_longest_text_the_positions_allow_runs(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows((backbone.max_length,)))
    assert segment_logits(backbone, batch, ()).isfinite().all()


def test_positions_shifted_by_the_padding_id_shorten_the_longest_text() -> None:
    assert tiny_backbone("bert").max_length == 64
    assert tiny_backbone("roberta").max_length == 62


def test_running_leaves_the_config_as_it_was() -> None:
    backbone = tiny_backbone("gemma3_text")
    before = backbone.config.to_dict()
    segment_logits(backbone, packed(tiny_rows()), (1, 2))
    assert backbone.config.to_dict() == before


def test_layer_work_counts_the_matrices() -> None:
    backbone = tiny_backbone("bert")
    assert [backbone.layer_work(i) for i in range(4)] == [4 * 32 * 32 + 2 * 32 * 48] * 4
    assert backbone.embed_work() == 0
    assert backbone.head_work() == 32 * 32 + 32 * 3
    assert tiny_backbone("electra").embed_work() == 16 * 32


def test_unknown_families_are_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(FamilyError, match=r"'gpt2'.*bert, roberta.*gemma3_text"):
        family_of(SimpleNamespace(model_type="gpt2"))


@pytest.mark.parametrize(
    ("name", "option"), [("bert", "is_decoder"), ("gemma3_text", "use_bidirectional_attention")]
)
def test_attention_the_adapter_does_not_know_is_refused(name: str, option: str) -> None:
    with pytest.raises(FamilyError, match=option):
        family_of(tiny_config(name, **{option: True}))
