"""Fitting a router on held-out outcomes: features in, which tiers did worse out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.routers import fit_boosted, fit_linear, fit_neighbours
from adaptive.routers.router import KINDS, Model, Router


def fit_router(
    kind: str, features: NDArray[Any], worse: NDArray[np.bool_], seed: int = 0
) -> Router:
    """A router of the given kind, on the host.

    Args:
        kind: one of `KINDS`.
        features: [n, F] of `features.router_features`.
        worse: [n, m] whether a tier's last answer was worse than the full tier's.
        seed: of everything drawn; the same seed gives the same router.

    Tiers that were worse on every row, or on none, get the constant (worse + 1) / (n + 2).

    Raises:
        ValueError: unknown kind, shapes that do not fit, no rows, features not finite.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of router {kind!r}, expected one of {', '.join(KINDS)}")
    features = np.asarray(features, dtype=np.float32)
    worse = np.asarray(worse, dtype=bool)
    _check(features, worse)
    rows = len(features)
    count = worse.sum(0)
    varying = np.flatnonzero((count > 0) & (count < rows))
    mean, gain = _standardisation(features)
    # In the router's own arithmetic, so that a threshold found here splits alike there.
    standard = (features - mean) * gain
    return Router(
        kind,
        _fit(kind, standard, worse[:, varying], seed) if len(varying) else None,
        mean=torch.from_numpy(mean),
        gain=torch.from_numpy(gain),
        share=torch.from_numpy((count + 1) / (rows + 2)),
        varying=torch.from_numpy(varying),
    )


def _fit(kind: str, standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int) -> Model:
    if kind == "logistic":
        return fit_linear.fit_logistic(standard, worse, seed)
    if kind == "mlp":
        return fit_linear.fit_perceptron(standard, worse, seed)
    if kind == "knn":
        return fit_neighbours.fit_neighbours(standard, worse, seed)
    return fit_boosted.fit_trees(standard, worse, seed)


def _standardisation(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and 1 / deviation [F]; 0 for features that are constant here and tell nothing."""
    mean = features.mean(0, dtype=np.float64)
    deviation = features.std(0, dtype=np.float64)
    constant = deviation < 1e-6 * np.maximum(1.0, np.abs(mean))
    gain = np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))
    return mean.astype(np.float32), gain.astype(np.float32)


def _check(features: NDArray[np.float32], worse: NDArray[np.bool_]) -> None:
    if features.ndim != 2 or worse.ndim != 2 or len(features) != len(worse) or not len(worse):
        raise ValueError(
            f"features {features.shape} and worse {worse.shape} must be [n, F] and [n, m], n > 0"
        )
    finite = np.isfinite(features).all(1)
    if not finite.all():
        raise ValueError(f"features of row {int(np.argmin(finite))} are not finite")
