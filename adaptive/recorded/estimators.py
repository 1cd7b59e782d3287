"""Expectations of losses in [0, 1], fitted, and kept as plain arrays.

Fitted by scikit-learn, kept without it: a logistic regression is an affine map, boosted trees are
arrays of nodes. Which of them serves is chosen by cross-validated log loss on the rows they are
fitted on. Boosted trees are calibrated by a logistic map of their out-of-fold scores.

References:
    Friedman (2001), greedy function approximation: a gradient boosting machine, Annals of
        Statistics 29(5).
    Platt (1999), probabilistic outputs for support vector machines: the map of scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STRENGTHS = (0.002, 0.01, 0.05)  # inverse regularisation, of features of unit variance
TREES, DEPTH, RATE = 60, 3, 0.1
FOLDS = 5
FEWEST = 10  # rows of either kind, below which the mean is all that is told
LEAST = 1e-4  # a probability is never nearer to 0 or 1


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees of t trees and at most v nodes each.

    Where a node's feature is at most its threshold go left, else right. A leaf's feature is -1.
    """

    feature: NDArray[np.int16]  # [t, v]
    threshold: Floats  # [t, v]
    left: NDArray[np.int16]  # [t, v]
    right: NDArray[np.int16]  # [t, v]
    value: Floats  # [t, v] of a leaf, in log odds

    def __call__(self, features: Floats) -> Floats:
        """Sum over the trees, [n] of [n, w]."""
        values = features.astype(np.float32)  # which scikit-learn compares
        score, rows = np.zeros(len(values)), np.arange(len(values))
        for tree in range(len(self.feature)):
            node = np.zeros(len(values), dtype=np.int64)
            for _ in range(DEPTH):
                which = self.feature[tree, node]
                low = values[rows, np.maximum(which, 0)] <= self.threshold[tree, node]
                onward = np.where(low, self.left[tree, node], self.right[tree, node])
                node = np.where(which < 0, node, onward)
            score += self.value[tree, node]
        return score


@dataclass(frozen=True, slots=True)
class Estimator:
    """Log odds = bias + weights x standardised features + slope x trees."""

    mean: Floats  # [w] of the features
    scale: Floats  # [w]
    weights: Floats  # [w]
    bias: float
    slope: float = 0.0
    trees: Trees | None = None

    def __call__(self, features: Floats) -> Floats:
        """Probability of each row, [n] of [n, w]."""
        odds = self.bias + ((features - self.mean) / self.scale) @ self.weights
        if self.trees is not None:
            odds = odds + self.slope * self.trees(features)
        return np.clip(_probability(odds), LEAST, 1.0 - LEAST)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays, to be stored."""
        found: dict[str, NDArray[Any]] = {
            "mean": self.mean,
            "scale": self.scale,
            "weights": self.weights,
            "odds": np.array([self.bias, self.slope]),
        }
        if self.trees is not None:
            found |= {f"trees.{name}": getattr(self.trees, name) for name in Trees.__slots__}
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Estimator:
        """The one whose arrays these are.

        Raises:
            KeyError: one is missing.
        """
        trees = None
        if "trees.feature" in arrays:
            trees = Trees(**{name: arrays[f"trees.{name}"] for name in Trees.__slots__})
        bias, slope = arrays["odds"].tolist()
        return cls(arrays["mean"], arrays["scale"], arrays["weights"], bias, slope, trees)


@dataclass(frozen=True, slots=True)
class Fitted:
    """An estimator, and how it does on rows that it was not fitted on."""

    estimator: Estimator
    kind: str  # constant, logistic, boosting or both
    log_loss: float  # cross-validated
    out_of_fold: Floats  # [n] probabilities of the rows fitted on, each from other folds


def fit_estimator(
    features: Floats, given: NDArray[np.floating], seed: int = 0, *, trees: bool = True
) -> Fitted:
    """Fit the expectation of shares in [0, 1], given [n], from features [n, w].

    A share counts as so much of a row that is 1, and the rest of one that is 0.

    Args:
        trees: whether boosted trees are tried too.
    """
    shares: Floats = np.asarray(given, dtype=np.float64)
    if min(shares.sum(), len(shares) - shares.sum()) < FEWEST or not features.shape[1]:
        share = float((shares.sum() + 0.5) / (len(shares) + 1.0))
        width = features.shape[1]
        plain = Estimator(np.zeros(width), np.ones(width), np.zeros(width), float(_odds(share)))
        even = np.full(len(shares), share)
        return Fitted(plain, "constant", _log_loss(even, shares), even)
    fold = np.random.default_rng([seed, 5]).permutation(len(shares)) % FOLDS
    ways = {
        strength: _held_out(features, shares, fold, partial(_logistic, strength=strength))
        for strength in STRENGTHS
    }
    strength = min(ways, key=lambda each: _log_loss(ways[each], shares))
    linear = _logistic(features, shares, strength)
    told = {"logistic": ways[strength]}
    if trees:
        boost = partial(_boosted, seed=seed)
        raw = _odds(_held_out(features, shares, fold, boost))
        slope, bias = _map(raw, shares)
        told["boosting"] = _probability(bias + slope * raw)
        told["both"] = _probability(0.5 * (_odds(told["logistic"]) + bias + slope * raw))
    kind = min(told, key=lambda way: _log_loss(told[way], shares))
    loss = _log_loss(told[kind], shares)
    if kind == "logistic":
        return Fitted(linear, kind, loss, told[kind])
    boosted, half = boost(features, shares), 0.5 if kind == "both" else 1.0
    joined = replace(
        linear,
        weights=(1.0 - half) * linear.weights,
        bias=(1.0 - half) * linear.bias + half * (bias + slope * boosted.bias),
        slope=half * slope,
        trees=boosted.trees,
    )
    return Fitted(joined, kind, loss, told[kind])


Fit = Callable[[Floats, Floats], Estimator]


def _held_out(features: Floats, shares: Floats, fold: NDArray[np.int64], fit: Fit) -> Floats:
    """Of each row, what is told by a fit to the other folds."""
    found = np.empty(len(shares))
    for each in range(FOLDS):
        inside = fold == each
        found[inside] = fit(features[~inside], shares[~inside])(features[inside])
    return found


def _weighted(features: Floats, shares: Floats) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Rows that are 1 and rows that are 0, and their weights."""
    ones, zeros = np.flatnonzero(shares > 0.0), np.flatnonzero(shares < 1.0)
    kind = np.arange(len(ones) + len(zeros)) < len(ones)
    weights = np.concatenate([shares[ones], 1.0 - shares[zeros]])
    return features[np.concatenate([ones, zeros])], kind, weights


def _logistic(features: Floats, shares: Floats, strength: float) -> Estimator:
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    rows, kind, weights = _weighted((features - mean) / scale, shares)
    if kind.all() or not kind.any():
        return Estimator(mean, scale, np.zeros(len(mean)), float(_odds(shares.mean())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's options and scipy's differ by version
        fitted = LogisticRegression(C=strength, max_iter=300).fit(rows, kind, weights)
    return Estimator(mean, scale, fitted.coef_[0], float(fitted.intercept_[0]))


def _boosted(features: Floats, shares: Floats, seed: int) -> Estimator:
    from sklearn.ensemble import GradientBoostingClassifier

    rows, kind, weights = _weighted(features, shares)
    width, prior = features.shape[1], float(_odds(shares.mean()))
    plain = Estimator(np.zeros(width), np.ones(width), np.zeros(width), prior)
    if kind.all() or not kind.any():
        return plain
    fitted = GradientBoostingClassifier(
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        subsample=0.5,
        max_features=min(20, width),
        min_samples_leaf=max(5, min(30, len(shares) // 30)),
        random_state=seed,
    ).fit(rows, kind, weights)
    shape = (TREES, 2 ** (DEPTH + 1) - 1)
    trees = Trees(
        feature=np.full(shape, -1, np.int16),
        threshold=np.zeros(shape),
        left=np.zeros(shape, np.int16),
        right=np.zeros(shape, np.int16),
        value=np.zeros(shape),
    )
    for place, each in enumerate(fitted.estimators_[:, 0]):
        tree = each.tree_
        size = tree.node_count
        trees.feature[place, :size] = np.where(tree.children_left < 0, -1, tree.feature)
        trees.threshold[place, :size] = tree.threshold
        trees.left[place, :size] = tree.children_left
        trees.right[place, :size] = tree.children_right
        trees.value[place, :size] = RATE * tree.value[:, 0, 0]
    return replace(plain, slope=1.0, trees=trees)


def _map(odds: Floats, shares: Floats) -> tuple[float, float]:
    """Slope and bias of Platt's map of log odds."""
    fitted = _logistic(odds[:, None], shares, 100.0)
    slope = max(float(fitted.weights[0] / fitted.scale[0]), 0.0)
    return slope, fitted.bias - slope * float(fitted.mean[0])


def _odds(share: Any) -> Any:
    inside = np.clip(share, LEAST, 1.0 - LEAST)
    return np.log(inside / (1.0 - inside))


def _probability(odds: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(odds, -50.0, 50.0)))
    return found


def _log_loss(told: Floats, shares: Floats) -> float:
    inside = np.clip(told, LEAST, 1.0 - LEAST)
    return float(-(shares * np.log(inside) + (1.0 - shares) * np.log(1.0 - inside)).mean())
