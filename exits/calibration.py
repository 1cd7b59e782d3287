"""Fitting temperatures and reliability on rows that no weight was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.exits.measures import FEATURES

# Wide enough for any head that learnt something.
_TEMPERATURES = (0.2, 20.0)
_REGULARISATION = 1.0  # sklearn's C: a prior of about one row's weight on standardised features


def fit_temperature(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Rows answered without a fault would ask for a temperature of zero, and scores of 1 for
    anything. As in Platt's scaling (1999, section 2.2) labels are therefore not wholly certain:
    1 in n + 2 could be any class, the rate of faults that n rows without one allow for (Laplace's
    rule).

    Args:
        logits: [n, c] as the head gives them.
        targets: [n] labels in [0, c), or [n, c] soft targets such as the full tier's, taken as
            they are.

    Returns:
        A temperature in [0.2, 20]. The loss is convex in 1/temperature, so the minimum is
        the only one.

    Raises:
        ValueError: no rows, shapes that do not fit, labels out of range.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, dtype=np.float64)
    targets = np.asarray(targets)
    _check_targets(logits, targets)
    shifted = logits - logits.max(1, keepdims=True)
    rows = len(targets)
    if targets.ndim == 2:
        aimed, mass = float((shifted * targets).sum(1).mean()), targets.sum(1)
    else:
        doubt, own = 1.0 / (rows + 2), shifted[np.arange(rows), targets]
        aimed = float(((1 - doubt) * own + doubt * shifted.mean(1)).mean())
        mass = np.ones(rows)

    def loss(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        partition = np.log(np.exp(shifted * sharpness).sum(1))
        return float((partition * mass).mean()) - aimed * sharpness

    bounds = tuple(math.log(value) for value in _TEMPERATURES)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))


def fit_reliability(
    features: NDArray[Any], ok: NDArray[np.bool_], names: Sequence[str] = FEATURES
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """One stage's logistic model of "this answer is good" (Platt 1999, on many measures).

    Args:
        features: [n, F] of `adaptive.exits.measures.measure`, or of another kind of answer.
        ok: [n] whether the answer was as good as the full tier's.
        names: of the features, [F].

    Returns:
        mean, scale and weight [F] in standardised space, and bias. Where every row is good,
        or none is, weights are 0 and the bias is the log odds of (good + 1) / (n + 2).

    Raises:
        ValueError: no rows, shapes that do not fit, features that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    ok = np.asarray(ok, dtype=bool)
    _check_features(features, ok, names)
    mean = features.mean(0)
    scale = features.std(0)
    # A feature that is constant here carries nothing; left at its own tiny deviation it
    # would blow up the first time it differs online.
    constant = scale < 1e-6 * np.maximum(1.0, np.abs(mean))
    scale = np.where(constant, 1.0, scale)
    good = int(ok.sum())
    if good in (0, len(ok)):
        share = (good + 1) / (len(ok) + 2)
        return mean, scale, np.zeros_like(mean), math.log(share / (1 - share))
    from sklearn.linear_model import LogisticRegression

    standard = np.where(constant, 0.0, (features - mean) / scale)
    model = LogisticRegression(C=_REGULARISATION, max_iter=1000).fit(standard, ok)
    return mean, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0])


def reliability_error(reliability: NDArray[Any], ok: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error of reliability [n] against ok [n], in [0, 1].

    Bins of equal mass (Nguyen & O'Connor 2015, arXiv:1508.05154); equal reliabilities
    share a bin, so that the order of the rows does not matter.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    reliability = np.asarray(reliability, dtype=np.float64)
    ok = np.asarray(ok, dtype=bool)
    if reliability.shape != ok.shape or ok.ndim != 1 or not len(ok):
        raise ValueError(f"reliability {reliability.shape} and ok {ok.shape} must both be [n], n>0")
    edges = np.quantile(reliability, np.linspace(0, 1, bins + 1)[1:-1])
    bin_of = np.searchsorted(np.unique(edges), reliability, side="right")
    gaps = np.bincount(bin_of, weights=reliability - ok)
    return float(np.abs(gaps).sum() / len(ok))


def _check_targets(logits: NDArray[np.float64], targets: NDArray[Any]) -> None:
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"logits have shape {logits.shape}, expected [n, c] with n > 0")
    if targets.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            f"targets have shape {targets.shape}, expected {logits.shape[:1]} labels or "
            f"{logits.shape} soft targets"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits hold a value that is not finite")
    if targets.ndim == 1 and (targets.min() < 0 or targets.max() >= logits.shape[1]):
        raise ValueError(
            f"labels span {targets.min()} to {targets.max()}, expected 0 to {logits.shape[1] - 1}"
        )


def _check_features(
    features: NDArray[np.float64], ok: NDArray[np.bool_], names: Sequence[str]
) -> None:
    expected = (len(ok), len(names))
    if features.shape != expected or not len(ok):
        raise ValueError(
            f"features have shape {features.shape}, expected {expected} with rows above 0"
        )
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"feature {names[column]!r} of row {row} is not finite")
