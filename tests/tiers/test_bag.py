"""The bag of embeddings, against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_transformers import VOCABULARY, packed, tiny_rows

from adaptive.errors import FamilyError
from adaptive.tiers.bag import Bag
from adaptive.types import TokenBatch


def _bag(buckets: int = 0) -> Bag:
    torch.manual_seed(0)
    bag = Bag(VOCABULARY, 8, buckets)
    with torch.no_grad():
        bag.score.normal_()
        if bag.pairs is not None:
            bag.pairs.normal_()
    return bag


def test_tokens_are_weighed_by_their_scores() -> None:
    bag = _bag()
    rows = tiny_rows()
    pooled = bag.pool(bag.embed(packed(rows)))
    for i, row in enumerate(rows):
        weight = bag.score[row].softmax(0)
        torch.testing.assert_close(pooled[i], weight @ bag.embedding_table[row])


@pytest.mark.parametrize("buckets", [0, 16])
def test_batch_mates_do_not_change_a_text(buckets: int) -> None:
    bag = _bag(buckets)
    rows = tiny_rows()
    alone = torch.cat([bag.pool(bag.embed(packed([row]))) for row in rows])
    torch.testing.assert_close(bag.pool(bag.embed(packed(rows))), alone)


def test_pairs_tell_apart_the_orders_of_the_same_tokens() -> None:
    batch = packed([torch.tensor([5, 6, 7]), torch.tensor([7, 6, 5])])
    plain = _bag().embed(batch).hidden
    torch.testing.assert_close(plain[0, 0], plain[0, 1])
    paired = _bag(1024).embed(batch).hidden
    assert not torch.allclose(paired[0, 0], paired[0, 1])


def test_pairs_of_a_large_vocabulary_spread_over_the_buckets() -> None:
    bag = Bag(260_000, 1, 512)
    assert bag.pairs is not None
    with torch.no_grad():
        bag.table.weight.zero_()
    torch.manual_seed(0)
    ids = torch.randint(0, 260_000, (4000,))
    bag.embed(packed([ids])).hidden.sum().backward()
    assert bag.pairs.grad is not None
    share = bag.pairs.grad.flatten()  # of 3999 pairs, in each bucket
    assert (share > 0).float().mean() > 0.98
    assert share.max() < 5 / 512


def test_a_text_of_no_tokens_is_zero() -> None:
    rows = [torch.tensor([5, 6]), torch.ones(0).long(), torch.tensor([7])]
    found = _bag(16).embed(packed(rows)).hidden[0]
    assert found[0].all() and not found[1].any() and found[2].all()


def test_tokens_to_be_overlooked_weigh_nothing() -> None:
    bag = _bag()
    batch = packed([torch.tensor([5, 6, 7]), torch.tensor([8, 9])])
    some = replace(batch, seen=torch.tensor([True, False, True, False, False]))
    alone = bag.embed(packed([torch.tensor([5, 7])])).hidden[0]
    found = bag.embed(some).hidden[0]
    torch.testing.assert_close(found[:1], alone)
    assert not found[1].any()
    paired = _bag(1024).embed(some).hidden[0]
    assert not torch.allclose(paired[0], found[0]) and not paired[1].any()


def test_it_starts_as_the_mean_of_a_projected_table() -> None:
    torch.manual_seed(0)
    table = torch.randn(VOCABULARY, 32)
    bag = Bag.from_table(table, 32, buckets=16)
    row = tiny_rows((6,))[0]
    pooled = bag.pool(bag.embed(packed([row])))
    # a rotation: lengths of means stay
    torch.testing.assert_close(pooled[0].norm(), table[row].mean(0).norm())
    assert Bag.from_table(table, 4).hidden == 4


def test_every_part_learns() -> None:
    bag = _bag(16)
    bag.embed(packed(tiny_rows())).hidden.square().sum().backward()
    for name, parameter in bag.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_states_can_be_selected_and_run_through_no_layers() -> None:
    bag = _bag(16).to(torch.bfloat16)
    state = bag.embed(packed(tiny_rows()))
    assert state.hidden.shape == (1, 4, 8) and state.hidden.dtype == torch.bfloat16
    kept = bag.run(state, 0, 0).select(np.array([2, 0]))
    torch.testing.assert_close(bag.pool(kept), bag.pool(state)[[2, 0]])


def test_it_has_no_head_of_its_own() -> None:
    bag = _bag()
    with pytest.raises(FamilyError, match="no head of its own"):
        bag.classify(bag.embed(packed(tiny_rows())))


@pytest.mark.parametrize("buckets", [0, 7])
@pytest.mark.parametrize("length", [0, 1, 2, 9])
@torch.inference_mode()
def test_a_text_alone_comes_to_the_same_as_in_company(buckets: int, length: int) -> None:
    bag, ids, other = _bag(buckets), torch.arange(length) % VOCABULARY, torch.tensor([3, 4])
    alone = bag.embed(TokenBatch(ids, np.array([length]))).hidden[0, 0]
    both = bag.embed(TokenBatch(torch.cat([other, ids]), np.array([2, length]))).hidden[0, 1]
    torch.testing.assert_close(alone, both)


@pytest.mark.parametrize("buckets", [0, 7])
@pytest.mark.parametrize("lengths", [(4,), (1, 5, 2, 9), (3, 0, 1), (0,), ()])
def test_texts_come_to_the_same_with_gradients(buckets: int, lengths: tuple[int, ...]) -> None:
    bag, ids = _bag(buckets), torch.arange(sum(lengths)) % VOCABULARY
    batch = TokenBatch(ids, np.array(lengths, np.int64))
    expected = bag.embed(batch).hidden.detach()
    with torch.no_grad():
        torch.testing.assert_close(bag.embed(batch).hidden, expected)


@torch.inference_mode()
def test_a_text_alone_may_have_tokens_to_be_overlooked() -> None:
    bag, ids, seen = _bag(7), torch.arange(4), torch.tensor([True, False, True, True])
    all_seen, some = (TokenBatch(ids, np.array([4]), seen=each) for each in (seen | True, seen))
    plain = bag.embed(TokenBatch(ids, np.array([4]))).hidden
    torch.testing.assert_close(bag.embed(all_seen).hidden, plain)
    assert not torch.allclose(bag.embed(some).hidden, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_pairs_in_half_precision_say_the_same_in_half_of_the_memory(dtype: torch.dtype) -> None:
    bag, batch = _bag(16).to(dtype), packed(tiny_rows())
    seen = replace(batch, seen=torch.arange(len(batch.ids)) % 3 > 0)
    alone = packed(tiny_rows()[:1])
    before = [bag.embed(each).hidden for each in (batch, seen, alone)]
    bag.halve_pairs()
    assert bag.pairs is not None and bag.pairs.dtype == torch.float16
    for each, expected in zip((batch, seen, alone), before, strict=True):
        found = bag.embed(each).hidden
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=5e-3)


def test_gradients_of_a_text_alone_are_sparse_where_they_have_to_be() -> None:
    bag = _bag(7)
    bag.sparse = True
    bag.embed(TokenBatch(torch.arange(4), np.array([4]))).hidden.sum().backward()
    assert all(table.grad is not None and table.grad.is_sparse for table in bag.tables)
