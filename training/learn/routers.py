"""What a router saves at a target, and the files that a router is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from adaptive.policy.costs import Costs
from adaptive.policy.lookup import Lookup, evaluate
from adaptive.policy.search import search
from adaptive.policy.targets import mean_excess
from adaptive.routers import Router, from_state, to_state
from adaptive.types import OutcomeTable, Target


@torch.inference_mode()
def risk_of(router: Router, features: torch.Tensor) -> NDArray[np.float32]:
    """The router's risk of texts, [n, m]."""
    risk: NDArray[np.float32] = router.risk(features).numpy()
    return risk


def costs_with_and_without(
    router: Router,
    features: NDArray[Any],
    table: OutcomeTable,
    costs: Costs,
    with_router: Costs,
    targets: Sequence[Target],
    *,
    margin: float = 2.0,
    sweeps: int = 2,
    seed: int = 0,
) -> dict[str, dict[str, Any] | None]:
    """What the cheapest policies that keep the targets cost, entered by the router and without.

    Policies are searched on half of the rows, drawn at random, and judged on the others.

    Args:
        features: [n, F] of the table's texts, none of which the router was fitted on.
        costs, with_router: without the router's own cost, and with it.
        margin: standard errors to spare, see `adaptive.policy.search.search`.

    Returns:
        `without` and `with`: `cost` a text, `unit`, and `excess`, by how much the first half's
        policy misses a target on the second, negative where it is kept. None where no policy
        with the router keeps the targets.

    Raises:
        TargetError: a target that no policy can keep, or in another unit than the costs.
        ValueError: a target that needs labels, of a table without.
    """
    order = np.random.default_rng(seed).permutation(len(table))
    half = len(order) // 2
    risk = risk_of(router, torch.as_tensor(np.asarray(features, dtype=np.float32)))
    found: dict[str, dict[str, Any] | None] = {}
    for name, priced, routed in (("without", costs, False), ("with", with_router, True)):
        rows = replace(table, risk=risk) if routed else table
        chosen, judged = rows.take(order[:half]), rows.take(order[half:])
        lookup = Lookup.of(chosen, priced.of(chosen))
        policies = [
            each.policy
            for each in search(lookup, targets, margin=margin, sweeps=sweeps, routed=routed)
            if (each.policy.risk_weight is not None) == routed
        ]
        if not policies:
            found[name] = None
            continue
        result = evaluate(policies[0], judged, priced.of(judged))
        excess = mean_excess(targets, result, judged)[0].max()
        told = {"cost": float(result.cost.mean()), "excess": float(excess)}
        found[name] = told | {"unit": priced.unit}
    return found


def save_router(router: Router, folder: Path) -> None:
    """Write `router.json` and `router.safetensors`, as they lie in a bundle."""
    described, tensors = to_state(router)
    (folder / "router.json").write_text(json.dumps(described), encoding="utf-8")
    save_file(tensors, folder / "router.safetensors")


def load_router(folder: Path) -> Router:
    """What `save_router` wrote.

    Raises:
        ValueError: the files do not fit each other.
    """
    tensors = load_file(folder / "router.safetensors")
    return from_state(json.loads((folder / "router.json").read_text(encoding="utf-8")), tensors)
