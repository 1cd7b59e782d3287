"""The Triton kernels compute what torch computes; without a GPU Triton's interpreter runs them."""

# ruff: noqa: E402 - what imports Triton stands behind the question whether it is there
from __future__ import annotations

import numpy as np
import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton")

from tiny_exits import an_exit, fitted, judged_by_torch

from adaptive.exits.kernel import judge_by_kernel
from adaptive.exits.measures import History
from adaptive.tiers.bag import Bag
from adaptive.tiers.kernels import bag_means, row_means
from adaptive.tiers.state import Packed
from adaptive.types import TokenBatch

# The interpreter computes with numpy, which warns where a GPU gives an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
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
    logits, pooled, prediction, streak, previous, anchor, log_length = seen
    history = None if first else History(prediction, streak, previous).packed()
    for stage in (0, 1, 3):
        probabilities, later, run, score = judged_by_torch(reliability, stage, *seen)
        given = (logits, pooled, history, anchor if stage else None, log_length)
        here = [None if each is None else each.to(DEVICE) for each in given]
        found = judge_by_kernel(reliability.to(DEVICE), stage, *here)
        reliability.to("cpu")
        close = {"atol": 2e-5, "rtol": 2e-5}
        torch.testing.assert_close(found.probabilities.cpu(), probabilities, **close)
        best = probabilities.max(1).values
        expected = torch.stack([later.float(), best, score], 1)
        torch.testing.assert_close(found.answer.cpu(), expected, **close)
        expected = History(later, run, pooled).packed()
        torch.testing.assert_close(found.history.cpu(), expected, **close)


@torch.inference_mode()
def test_an_exit_that_is_not_asked_how_sure_it_is_answers_the_same() -> None:
    reliability = fitted(2).to(DEVICE)
    logits, pooled, *_, log_length = an_exit(4, 5, 6, first=True, size=1, seed=0)
    given = (logits.to(DEVICE), pooled.to(DEVICE), None, None)
    asked = judge_by_kernel(reliability, 1, *given, log_length.to(DEVICE))
    alone = judge_by_kernel(reliability, 1, *given, None)
    assert torch.equal(asked.probabilities, alone.probabilities)
    assert torch.equal(asked.answer[:, :2], alone.answer[:, :2])


@pytest.mark.parametrize(("hidden", "buckets"), [(24, 64), (300, 0), (128, 1000)])
@torch.inference_mode()
def test_texts_are_the_same_bags(hidden: int, buckets: int) -> None:
    torch.manual_seed(0)
    bag = Bag(500, hidden, buckets)
    bag.score.normal_()
    if bag.pairs is not None:
        bag.pairs.copy_(torch.randn_like(bag.pairs).half())  # the same in half precision
    ids = torch.randint(0, 500, (int(LENGTHS.sum()),))
    expected = bag.embed(TokenBatch(ids, LENGTHS)).hidden[0]
    bag, ids = bag.to(DEVICE), ids.to(DEVICE)
    for pairs in (bag.pairs, bag.pairs if bag.pairs is None else bag.pairs.half()):
        found = bag_means(ids, ends_of(LENGTHS), bag.table.weight, bag.score, pairs)
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
