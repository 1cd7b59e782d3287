"""Token rows are packed, batched, selected and joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptive.text.tokens import batches, concatenate, pack, select
from adaptive.types import Tokens


def make(rows: list[list[int]], owner: list[int], types: bool = True) -> Tokens:
    flat = [token for row in rows for token in row]
    return Tokens(
        ids=np.array(flat, dtype=np.int32),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        types=np.array([token % 2 for token in flat], dtype=np.int8) if types else None,
        owner=np.array(owner, dtype=np.int64),
        truncated=np.array([i % 2 == 1 for i in range(max(owner, default=-1) + 1)]),
    )


THREE = make([[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]], [0, 1, 1, 2])


def test_rows_are_packed_one_behind_the_other_in_the_order_asked_for() -> None:
    batch = pack(THREE, np.array([2, 3, 1]))
    assert batch.ids.tolist() == [5, 6, 7, 8, 9, 10, 4]
    assert batch.lengths.tolist() == [2, 4, 1]
    assert batch.types is not None
    assert batch.types.tolist() == [1, 0, 1, 0, 1, 0, 0]
    assert batch.ids.dtype == batch.types.dtype == torch.int64


def test_packing_without_types_or_rows() -> None:
    assert pack(make([[1]], [0], types=False), np.array([0])).types is None
    assert pack(THREE, np.array([], dtype=np.int64)).ids.shape == (0,)


def test_batches_hold_every_row_once_longest_first() -> None:
    lengths = np.array([3, 9, 1, 9, 4])
    found = batches(lengths, 2)
    assert [batch.tolist() for batch in found] == [[1, 3], [4, 0], [2]]
    assert batches(np.array([], dtype=np.int64), 4) == []
    assert batches(np.ones(5000, dtype=np.int64), 5000)[0].tolist() == list(range(5000))
    with pytest.raises(ValueError, match="batch_size is 0"):
        batches(lengths, 0)


def test_batches_keep_to_a_budget_of_tokens_but_for_a_row_that_alone_has_more() -> None:
    lengths = np.array([3, 9, 1, 9, 4, 2])
    found = batches(lengths, 3, 8)
    assert [batch.tolist() for batch in found] == [[1], [3], [4, 0], [5, 2]]
    assert [batch.tolist() for batch in batches(lengths, 2, 100)] == [[1, 3], [4, 0], [5, 2]]
    assert [len(batch) for batch in batches(lengths, 99, 1)] == [1] * 6
    assert batches(np.array([], dtype=np.int64), 4, 8) == []


def test_select_takes_all_rows_of_the_texts_and_counts_them_anew() -> None:
    found = select(THREE, np.array([2, 1]))
    assert [row.tolist() for row in np.split(found.ids, found.offsets[1:-1])] == [
        [7, 8, 9, 10],
        [4],
        [5, 6],
    ]
    assert found.owner.tolist() == [0, 1, 1]
    assert found.truncated.tolist() == [False, True]
    assert found.types is not None
    assert found.types.tolist() == [1, 0, 1, 0, 0, 1, 0]


def test_concatenate_counts_texts_and_offsets_on() -> None:
    found = concatenate([THREE, make([[11, 12]], [0])])
    assert found.offsets.tolist() == [0, 3, 4, 6, 10, 12]
    assert found.owner.tolist() == [0, 1, 1, 2, 3]
    assert found.ids.tolist() == list(range(1, 13))
    assert found.truncated.tolist() == [False, True, False, False]


def test_concatenate_refuses_types_in_some_parts_only_but_takes_empty_ones() -> None:
    with pytest.raises(ValueError, match="1 of 2 parts have token types"):
        concatenate([THREE, make([[1]], [0], types=False)])
    empty = make([], [], types=False)
    assert concatenate([empty, THREE]).types is not None
    assert len(concatenate([empty])) == 0
