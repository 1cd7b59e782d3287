"""A router from recorded outcomes in one call, with what it is worth on rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.routers.fit import fit_router
from adaptive.routers.router import Router

_LEAST = 1e-6  # risks are held this far from 0 and 1 before their logarithm


@dataclass(frozen=True, slots=True)
class Trained:
    """A router, and how well it knows rows that it was not fitted on."""

    router: Router
    held_out: NDArray[np.int64]  # [t] those rows, ascending
    report: dict[str, Any]  # see `train_router`


def train_router(
    features: NDArray[Any],
    worse: NDArray[Any],
    kind: str = "logistic",
    *,
    lengths: NDArray[Any] | None = None,
    held_out: float | NDArray[np.integer[Any]] = 0.3,
    seed: int = 0,
) -> Trained:
    """Fit a router on some rows and judge it on the others.

    Args:
        features: [n, F] of each text, such as `features.router_features`.
        worse: [n, m] whether each tier's last answer was worse than the full tier's;
            `adaptive.policy.worth.worse_of` tells it of an outcome table.
        kind: one of `router.KINDS`.
        lengths: [n] tokens of each text, for a baseline.
        held_out: the share of rows to judge on, drawn at random; or their numbers.
        seed: of that draw and of the fit.

    Returns:
        The router and a report: `kind`, `rows` fitted and held out, and for each tier `worse` (the
        share), `auc` (the chance that a text it does worse on has the higher risk than one it does
        not; 0.5 is guessing, None where all rows are alike), `auc_by_length` of the baseline that
        takes longer texts for harder, `log_loss`, and `log_loss_constant` of the baseline that
        knows the fitted rows' share alone.

    Raises:
        ValueError: unknown kind, shapes that do not fit, features not finite, or no rows left to
            fit or to judge on.
    """
    features, worse = np.asarray(features, dtype=np.float32), np.asarray(worse, dtype=bool)
    rows, share = len(worse), None if isinstance(held_out, np.ndarray) else float(held_out)
    if share is None:
        judged = np.unique(np.asarray(held_out, dtype=np.int64))
    else:
        drawn = np.random.default_rng(seed).permutation(rows)
        judged = np.sort(drawn[: round(share * rows)])
    fitted = np.setdiff1d(np.arange(rows), judged)
    if not len(fitted) or not len(judged) or judged[-1] >= rows or judged[0] < 0:
        raise ValueError(
            f"{len(judged)} of {rows} rows are held out; expected at least one, and one to fit on"
        )
    router = fit_router(kind, features[fitted], worse[fitted], seed)
    with torch.inference_mode():
        risk = router.risk(torch.from_numpy(features[judged])).numpy()
    constant = (worse[fitted].sum(0) + 1) / (len(fitted) + 2)
    tiers = [
        {
            "worse": float(outcome.mean()),
            "auc": auc(risk[:, tier], outcome),
            "auc_by_length": None if lengths is None else auc(lengths[judged], outcome),
            "log_loss": _log_loss(risk[:, tier], outcome),
            "log_loss_constant": _log_loss(np.full(len(outcome), constant[tier]), outcome),
        }
        for tier, outcome in enumerate(worse[judged].T)
    ]
    told = {"fitted": len(fitted), "held_out": len(judged)}
    return Trained(router, judged, {"kind": kind, "rows": told, "tiers": tiers})


def auc(score: NDArray[Any], outcome: NDArray[np.bool_]) -> float | None:
    """The area under the ROC curve: how often a true row scores higher than a false one.

    Ties count half (Hanley and McNeil 1982). None where all outcomes [n] are alike.
    """
    false, true = np.sort(score[~outcome]), score[outcome]
    if not len(false) or not len(true):
        return None
    below, up_to = (np.searchsorted(false, true, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(false)))


def _log_loss(risk: NDArray[Any], outcome: NDArray[np.bool_]) -> float:
    held = np.clip(risk.astype(np.float64), _LEAST, 1 - _LEAST)
    return float(-np.log(np.where(outcome, held, 1 - held)).mean())
