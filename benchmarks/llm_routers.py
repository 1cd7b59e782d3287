"""Routers of others, on the same features: what they promise nothing about, and what they save.

All choose between the cheapest model and the full one, by the prompt alone. Two ways to set the
threshold: RouteLLM's recipe, which sends a fixed share of the calibration prompts (a half, its
documented example) to the strong model; and the cheapest threshold that keeps the level on the
calibration rows, which is how published curves are read, and proves nothing.

References:
    Ong et al. (2024), RouteLLM: matrix factorisation and `calibrate_threshold`, arXiv:2406.18665.
    kNN as in arXiv:2505.12601, "Rethinking predictive modeling for LLM routing".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.recorded.estimators import fit_estimator

Floats = NDArray[np.float64]
NEIGHBOURS = 40
RANK, EPOCHS = 32, 300


def scores_of(fit: Floats, every: Floats, score: Floats) -> dict[str, Floats]:
    """How good the cheap model is expected to be beside the full one, [n] for each router.

    Args:
        fit: features of the rows that fit, [f, w].
        every: of all rows, [n, w].
        score: of the cheap and the full model on the rows that fit, [f, 2].
    """
    good = (score[:, 0] >= score[:, 1]).astype(np.float64)
    mean, scale = fit.mean(0), np.maximum(fit.std(0), 1e-9)
    a, b = (fit - mean) / scale, (every - mean) / scale
    return {
        "logistic": fit_estimator(fit, good, trees=False).estimator(every),
        "knn": _nearest(a, b, good),
        "matrix factorisation": _factorised(a, b, score),
    }


def _nearest(fit: Floats, every: Floats, good: Floats) -> Floats:
    a = fit / np.maximum(np.linalg.norm(fit, axis=1, keepdims=True), 1e-9)
    b = every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-9)
    count = min(NEIGHBOURS, len(fit))
    near = np.argpartition(-(b @ a.T), count - 1, axis=1)[:, :count]
    found: Floats = good[near].mean(1)
    return found + 1e-6 * (b @ a.mean(0))  # parts equal shares


def _factorised(fit: Floats, every: Floats, score: Floats) -> Floats:
    """Score of a model = w . (v_model * W q); trained on scores, told as the difference."""
    torch.manual_seed(0)
    q, y = torch.tensor(fit, dtype=torch.float32), torch.tensor(score, dtype=torch.float32)
    project = torch.nn.Linear(q.shape[1], RANK)
    models = torch.nn.Parameter(torch.randn(2, RANK) * 0.1)
    bias = torch.nn.Parameter(torch.zeros(2))
    made = torch.optim.AdamW([*project.parameters(), models, bias], lr=3e-3, weight_decay=0.1)
    for _ in range(EPOCHS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(project(q) @ models.T + bias, y)
        made.zero_grad()
        loss.backward()
        made.step()
    with torch.no_grad():
        told = project(torch.tensor(every, dtype=torch.float32)) @ models.T + bias
        found: Floats = (told[:, 0] - told[:, 1]).numpy().astype(np.float64)
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """A router's opinion and the truth on some rows."""

    told: Floats  # [n] the higher, the better the cheap model
    score: Floats  # [n, 2] of the cheap and the full model
    cost: Floats  # [n, 2]

    def take(self, rows: NDArray[np.integer]) -> Rows:
        """The given rows."""
        return Rows(self.told[rows], self.score[rows], self.cost[rows])

    def at(self, threshold: float, level: float) -> dict[str, Any]:
        """What sending prompts above the threshold to the cheap model does."""
        cheap = (self.told >= threshold).astype(int)
        rows, which = np.arange(len(cheap)), 1 - cheap
        score, cost = self.score[rows, which], self.cost[rows, which]
        full = self.score[:, 1].mean()
        return {
            "saving": round(float(self.cost[:, 1].mean() / max(cost.mean(), 1e-12)), 3),
            "kept_on_test": round(float(score.mean() / full), 4),
            "broken": bool(((1.0 - level) * full - score.mean()) > 0.0),
        }


def share_threshold(rows: Rows, strong: float = 0.5) -> float:
    """RouteLLM's recipe: so large a share of the calibration prompts goes to the strong model."""
    return float(np.quantile(rows.told, strong))


def level_threshold(rows: Rows, level: float) -> float:
    """The lowest threshold that keeps the level on the calibration rows."""
    order = np.argsort(-rows.told, kind="stable")
    full, cheap = rows.score[order, 1], rows.score[order, 0]
    total = (cheap.cumsum() + full.sum() - full.cumsum()) / max(full.sum(), 1e-12)
    kept = np.flatnonzero(total >= 1.0 - level)
    return float(rows.told[order[kept[-1]]]) if len(kept) else float("inf")
