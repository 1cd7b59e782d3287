"""The Triton kernels compute what torch computes; without a GPU Triton's interpreter runs them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # read when a kernel is defined
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton")

from test_exits_judging import an_exit, fitted

from adaptive.exits.judging import judge
from adaptive.exits.kernel import judge_by_kernel
from adaptive.tiers.bag import Bag
from adaptive.tiers.kernels import bag_means, row_means
from adaptive.tiers.state import Packed
from adaptive.types import TokenBatch

LENGTHS = np.array([3, 1, 40, 17, 16])  # around the number of tokens read at once


def ends_of(lengths: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([[0], lengths.cumsum()]).astype(np.int32)).to(DEVICE)


@pytest.mark.parametrize(
    ("b", "c", "h", "first", "size"),
    [
        (5, 3, 4, True, 1.0),
        (7, 150, 128, False, 3.0),
        (3, 2, 20, False, 100.0),
        (1, 30, 17, False, 0.01),
    ],
)
@torch.inference_mode()
def test_an_exit_is_judged_as_by_torch(b: int, c: int, h: int, first: bool, size: float) -> None:
    reliability = fitted(4, seed=b)
    seen = an_exit(b, c, h, first=first, size=size, seed=b)
    here = [None if each is None else each.to(DEVICE) for each in seen]
    for stage in (0, 1, 3):
        expected = judge(reliability, stage, *seen)
        found = judge_by_kernel(reliability.to(DEVICE), stage, *here)
        reliability.to("cpu")
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one.cpu(), other, atol=2e-5, rtol=2e-5)


@torch.inference_mode()
def test_the_first_stage_needs_no_anchor() -> None:
    reliability = fitted(2).to(DEVICE)
    seen = [x if x is None else x.to(DEVICE) for x in an_exit(4, 5, 6, first=True, size=1, seed=0)]
    expected = judge_by_kernel(reliability, 0, *seen)
    seen[5] = None
    for one, other in zip(judge_by_kernel(reliability, 0, *seen), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("hidden", "buckets"), [(24, 64), (300, 0), (128, 1000)])
@torch.inference_mode()
def test_texts_are_the_same_bags(hidden: int, buckets: int) -> None:
    torch.manual_seed(0)
    bag = Bag(500, hidden, buckets)
    bag.score.normal_()
    if bag.pairs is not None:
        bag.pairs.normal_()
    ids = torch.randint(0, 500, (int(LENGTHS.sum()),))
    expected = bag.embed(TokenBatch(ids, LENGTHS)).hidden[0]
    bag, ids = bag.to(DEVICE), ids.to(DEVICE)
    found = bag_means(ids, ends_of(LENGTHS), bag.table.weight, bag.score, bag.pairs)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden", [5, 256, 300])
@torch.inference_mode()
def test_rows_have_the_same_means_and_empty_ones_are_zeros(hidden: int) -> None:
    lengths = np.insert(LENGTHS, 2, 0)
    states = torch.randn(int(lengths.sum()), hidden)
    expected = Packed(lengths, torch.device("cpu")).mean(states[None])
    found = row_means(states.to(DEVICE), ends_of(lengths)).cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not found[2].any()
