"""Cost tables: read between and beyond their lengths, written and read again, counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_cascade import HIDDEN, LABELS, WORDS

from adaptive.bundle.contents import Bundle
from adaptive.exits.heads import ExitHead
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.costs import WORK, CostTable, work_table
from adaptive.policy.lookup import evaluate, tier_alone
from adaptive.routers import work_per_text
from adaptive.tiers.tier import Tier
from adaptive.types import Tokens


def table() -> CostTable:
    return CostTable(
        unit="milliseconds",
        lengths=np.array([10.0, 20.0, 40.0]),
        embed=np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]]),
        segment=np.array([[0.0, 0.0, 0.0], [5.0, 15.0, 25.0], [1.0, 1.0, 1.0]]),
        head=np.array([[2.0, 2.0, 2.0], [1.0, 3.0, 7.0], [0.5, 0.5, 0.5]]),
        router=np.array([4.0, 4.0, 8.0]),
        measured={"device": "cpu", "threads": 2},
    )


@pytest.mark.parametrize(
    ("tokens", "embed", "segment", "router"),
    [
        (10, 1.0, 5.0, 4.0),
        (15, 1.5, 10.0, 4.0),
        (20, 2.0, 15.0, 4.0),
        (30, 4.0, 20.0, 6.0),
        (60, 10.0, 35.0, 12.0),  # on along the last piece
        (8, 0.8, 3.0, 4.0),  # back along the first
        (1, 0.1, 0.0, 4.0),  # but never below nothing
    ],
)
def test_costs_are_read_along_straight_lines(
    tokens: int, embed: float, segment: float, router: float
) -> None:
    found = table().at(np.array([tokens, 20]))
    assert found.embed[0, 0] == pytest.approx(embed)
    assert found.segment[0, 1] == pytest.approx(segment)
    assert found.router[0] == pytest.approx(router)
    assert found.embed[1].tolist() == [2.0, 0.0]  # the other text is read at its own length
    assert (found.embed.shape, found.segment.shape, found.head.shape) == ((2, 2), (2, 3), (2, 3))


def test_a_table_is_the_same_after_json() -> None:
    before = table()
    after = CostTable.from_json(json.loads(json.dumps(before.to_json())))
    assert (after.unit, after.measured) == (before.unit, before.measured)
    for name in ("lengths", "embed", "segment", "head", "router"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_json_without_a_field_is_refused() -> None:
    values = table().to_json()
    del values["head"]
    with pytest.raises(KeyError, match="head"):
        CostTable.from_json(values)


def test_work_grows_with_tokens_and_heads_do_not() -> None:
    found = work_table([2.0], [6.0, 12.0], [3.0, 3.0], router=9.0, layer=6.0)
    costs = found.at(np.array([1, 7]))
    np.testing.assert_allclose(costs.embed[:, 0], [2 / 6, 14 / 6])
    np.testing.assert_allclose(costs.segment, [[1, 2], [7, 14]])
    np.testing.assert_allclose(costs.head, 0.5)
    np.testing.assert_allclose(costs.router, 1.5)
    assert found.unit == WORK


LAYER = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * 48  # query, key, value, output; up and down


def test_the_full_tier_counts_one_a_layer_and_token(tiny_cascade: Bundle) -> None:
    costs = work_of(tiny_cascade.tiers).at(np.array([1, 10]))
    # exits at depths 0, 2 and 3 of three layers
    np.testing.assert_allclose(costs.segment[1, 4:], [0, 20, 10])
    np.testing.assert_allclose(costs.segment[0, 4:], [0, 2, 1])


def test_small_tiers_count_by_their_matrices(tiny_cascade: Bundle) -> None:
    costs = work_of(tiny_cascade.tiers).at(np.array([10]))
    # the bag adds its tokens' vectors and those of their pairs
    np.testing.assert_allclose(costs.embed[0], [10 * 2 * HIDDEN / LAYER, 0, 0])
    np.testing.assert_allclose(costs.segment[0, :4], [0, 0, 10, 10])
    head = HIDDEN * len(LABELS)
    own = HIDDEN * HIDDEN + head  # BERT's pooler and classifier
    np.testing.assert_allclose(costs.head[0] * LAYER, [head] * 6 + [own])


def test_the_whole_of_a_policy_by_hand(tiny_cascade: Bundle) -> None:
    count = 5
    lengths = np.arange(3, 3 + count)
    tokens = Tokens(
        ids=np.full(lengths.sum(), len(WORDS), np.int32),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        types=None,
        owner=np.arange(count),
        truncated=np.zeros(count, bool),
    )
    rows = outcomes(tiny_cascade, tokens, np.full(count, -1, np.int32), 4)
    costs = work_of(tiny_cascade.tiers).at(rows.tokens)
    found = evaluate(tier_alone(tiny_cascade.stages, 2), rows, costs)
    own = (HIDDEN * HIDDEN + HIDDEN * len(LABELS)) / LAYER
    np.testing.assert_allclose(found.cost, 3 * lengths + own)


def test_a_router_counts_per_text(tiny_cascade: Bundle) -> None:
    router = tiny_cascade.router
    assert router is not None
    costs = work_of(tiny_cascade.tiers, router).at(np.array([1, 50]))
    np.testing.assert_allclose(costs.router, work_per_text(router) / LAYER)
    assert (work_of(tiny_cascade.tiers).router == 0).all()


def test_a_hidden_layer_in_a_head_is_counted(tiny_cascade: Bundle) -> None:
    full = tiny_cascade.tiers[2]
    tier = Tier("full", full.backbone, (0, 3), LABELS, head_width=7)
    assert isinstance(tier.heads[0], ExitHead)
    assert tier.head_work(0) == HIDDEN * 7 + 7 * len(LABELS)
    head = work_of((tier,)).at(np.array([1])).head[0]
    np.testing.assert_allclose(head, (HIDDEN * 7 + 7 * len(LABELS)) / LAYER)
