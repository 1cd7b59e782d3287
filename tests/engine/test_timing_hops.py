"""Costs from whole hops, as they are measured on a GPU; here with a clock that is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_cascade import make_cascade

from adaptive.measure import timing
from adaptive.measure.timing import measure_hops
from adaptive.policy.lookup import Lookup, decisions_before, tier_alone
from adaptive.types import NEVER, Policy

LAUNCH, LAYER, HEAD, DECISION = 1.0, 0.5, 0.1, 0.3  # milliseconds of a batch


def told(device: Any, work: Any, tier: Any, hops: Any, *others: Any, bare: bool = False) -> Any:
    """What hops take; they are run all the same."""
    result = work(tier, hops, *others, **({"bare": bare} if others else {}))
    hops = hops if isinstance(hops, list) else [hops]
    exits = [exit for hop in hops for exit in hop.exits]
    spent = LAUNCH + LAYER * tier.depths[exits[-1]] + DECISION * (len(hops) - 1)
    rows = len(others[-1]) if others else 4
    return result, (spent + (0.0 if bare else HEAD * len(exits))) / 1e3 * rows / 4


def test_pieces_are_what_they_add_to_a_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_timed", told)
    bundle = make_cascade()
    given = {"batch_size": 4, "lengths": [4, 8], "repeats": 2}
    table = measure_hops(bundle.tiers, bundle.reliability, bundle.device, **given)
    layers = np.array([0, 0, 1, 1, 0, 2, 1])
    close = {"rtol": 1e-9}
    np.testing.assert_allclose(4 * table.segment[:, 0], LAYER * layers, **close)
    np.testing.assert_allclose(4 * table.decision, DECISION, **close)
    # spread over the exits that look back at others; one alone is in its tier's launch
    np.testing.assert_allclose(4 * table.head[1:, 0], 1.5 * HEAD, **close)
    np.testing.assert_allclose(4 * table.embed[0, 0], LAUNCH, **close)
    np.testing.assert_allclose(4 * table.embed[1:, 0], LAUNCH - 1.5 * HEAD, **close)
    assert table.measured["batch_size"] == 4


def test_a_text_pays_for_the_decisions_before_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_timed", told)
    bundle = make_cascade()
    given = {"batch_size": 4, "lengths": [4, 8], "repeats": 2}
    costs = measure_hops(bundle.tiers, bundle.reliability, bundle.device, **given)
    table = bundle.outcomes["certify"]
    lookup = Lookup.of(table, costs.at(np.full(len(table), 4)))
    policy = Policy((0, 2), (2.0, *[NEVER] * 3, 2.0, NEVER, 0.0))  # all go to the very end
    assert decisions_before(policy, bundle.stages).tolist() == [0, 0, 0, 0, 0, 1, 1]
    spent = 4 * lookup.evaluate(policy).cost
    # three heads of half as much again, of which one is in the launch
    whole = 2 * LAUNCH + 3 * LAYER + 2 * 1.5 * HEAD + DECISION
    np.testing.assert_allclose(spent, whole, rtol=1e-9)
    alone = 4 * lookup.evaluate(tier_alone(bundle.stages, 2)).cost
    np.testing.assert_allclose(alone, LAUNCH + 3 * LAYER, rtol=1e-9)
