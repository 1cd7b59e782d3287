"""The probability that an answer is as good as the reference's, as plain arrays.

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
TREES, DEPTH, RATE = 80, 3, 0.08
FOLDS = 5
FEWEST = 10  # rows of either kind, below which the share of good ones is all that is told
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


def fit_estimator(features: Floats, good: NDArray[np.bool_], seed: int = 0) -> Fitted:
    """Fit the probability that a row is good, [n, w] and [n]."""
    share = float(good.mean()) if len(good) else 0.5
    if min(good.sum(), len(good) - good.sum()) < FEWEST:
        share = (good.sum() + 0.5) / (len(good) + 1.0)
        width = features.shape[1]
        plain = Estimator(
            np.zeros(width), np.ones(width), np.zeros(width), float(np.log(share / (1 - share)))
        )
        told = np.full(len(good), share)
        return Fitted(plain, "constant", _log_loss(told, good), told)
    folds = _folds(good, seed)
    ways: dict[str, Floats] = {
        f"logistic {strength}": _held_out(
            features, good, folds, partial(_logistic, strength=strength)
        )
        for strength in STRENGTHS
    }
    best = min(ways, key=lambda way: _log_loss(ways[way], good))
    strength = float(best.split()[1])
    boost = partial(_boosted, seed=seed)
    raw = _held_out(features, good, folds, boost)
    slope, bias = _map(_odds(raw), good)
    ways["boosting"] = _probability(bias + slope * _odds(raw))
    ways["both"] = _probability(0.5 * (_odds(ways[best]) + bias + slope * _odds(raw)))
    found = min((best, "boosting", "both"), key=lambda way: _log_loss(ways[way], good))
    linear = _logistic(features, good, strength)
    if found == best:
        return Fitted(linear, "logistic", _log_loss(ways[found], good), ways[found])
    trees = boost(features, good)
    half = 0.5 if found == "both" else 1.0
    joined = replace(
        linear,
        weights=(1.0 - half) * linear.weights,
        bias=(1.0 - half) * linear.bias + half * (bias + slope * trees.bias),
        slope=half * slope,
        trees=trees.trees,
    )
    return Fitted(joined, found, _log_loss(ways[found], good), ways[found])


def _folds(good: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """The fold of each row; each has the same share of good ones."""
    generator = np.random.default_rng([seed, 5])
    fold = np.empty(len(good), dtype=np.int64)
    for kind in (True, False):
        rows = generator.permutation(np.flatnonzero(good == kind))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def _held_out(
    features: Floats,
    good: NDArray[np.bool_],
    fold: NDArray[np.int64],
    fit: Callable[[Floats, NDArray[np.bool_]], Estimator],
) -> Floats:
    found = np.empty(len(good))
    for each in range(FOLDS):
        inside = fold == each
        found[inside] = fit(features[~inside], good[~inside])(features[inside])
    return found


def _logistic(features: Floats, good: NDArray[np.bool_], strength: float) -> Estimator:
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's options and scipy's differ by version
        fitted = LogisticRegression(C=strength, max_iter=300).fit((features - mean) / scale, good)
    return Estimator(mean, scale, fitted.coef_[0], float(fitted.intercept_[0]))


def _boosted(features: Floats, good: NDArray[np.bool_], seed: int) -> Estimator:
    from sklearn.ensemble import GradientBoostingClassifier

    share = float(np.clip(good.mean(), LEAST, 1.0 - LEAST))
    prior = float(np.log(share / (1.0 - share)))
    fitted = GradientBoostingClassifier(
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        subsample=0.5,
        max_features=min(20, features.shape[1]),
        min_samples_leaf=max(5, min(30, len(good) // 30)),
        random_state=seed,
    ).fit(features, good)
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
    width = features.shape[1]
    return Estimator(np.zeros(width), np.ones(width), np.zeros(width), prior, 1.0, trees)


def _map(odds: Floats, good: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and bias of Platt's map of log odds."""
    fitted = _logistic(odds[:, None], good, 100.0)
    slope = max(float(fitted.weights[0] / fitted.scale[0]), 0.0)
    return slope, fitted.bias - slope * float(fitted.mean[0])


def _odds(share: Floats) -> Floats:
    inside = np.clip(share, LEAST, 1.0 - LEAST)
    found: Floats = np.log(inside / (1.0 - inside))
    return found


def _probability(odds: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-odds))
    return found


def _log_loss(share: Floats, good: NDArray[np.bool_]) -> float:
    inside = np.clip(share, LEAST, 1.0 - LEAST)
    return float(-np.where(good, np.log(inside), np.log(1.0 - inside)).mean())
