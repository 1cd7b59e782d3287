"""Fitting the gradient-boosted router with scikit-learn, and taking its trees out as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.routers.trees import Trees

_TREES = 100
_DEPTH = 3
_RATE = 0.05
_LEAF = 10  # least rows in a leaf


def fit_trees(standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int) -> Trees:
    """Stochastic gradient boosting (Friedman 2002), one ensemble a column of `worse` [n, o]."""
    from sklearn.ensemble import GradientBoostingClassifier

    models = [
        GradientBoostingClassifier(
            n_estimators=_TREES,
            max_depth=_DEPTH,
            learning_rate=_RATE,
            min_samples_leaf=_LEAF,
            subsample=0.5,
            max_features="sqrt",
            random_state=seed,
        ).fit(standard, column)
        for column in worse.T
    ]
    share = worse.mean(0)
    return export(models, np.log(share / (1 - share)), standard.shape[1])


def export(models: list[Any], prior: NDArray[np.float64], inputs: int) -> Trees:
    """Fitted binary `GradientBoostingClassifier`s as one `Trees`, deciding exactly alike.

    prior [o] is each model's log odds before its first tree: those of its training share.
    """
    trees = [[stage[0].tree_ for stage in model.estimators_] for model in models]
    nodes = max(tree.node_count for column in trees for tree in column)
    shape = (len(models), len(trees[0]), nodes)
    feature, left, right = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    threshold, value = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    for column, model in enumerate(models):
        for index, tree in enumerate(trees[column]):
            at = (column, index, slice(tree.node_count))
            leaf = tree.children_left < 0
            own = np.arange(tree.node_count)
            left[at] = np.where(leaf, own, tree.children_left)
            right[at] = np.where(leaf, own, tree.children_right)
            feature[at] = np.where(leaf, 0, tree.feature)
            threshold[at] = np.where(leaf, 0.0, _round_down(tree.threshold))
            value[at] = tree.value[:, 0, 0] * model.learning_rate
    depth = max(tree.max_depth for column in trees for tree in column)
    return Trees(
        inputs,
        feature=torch.from_numpy(feature),
        threshold=torch.from_numpy(threshold),
        left=torch.from_numpy(left),
        right=torch.from_numpy(right),
        value=torch.from_numpy(value),
        prior=torch.from_numpy(prior),
        depth=torch.tensor(depth),
    )


def _round_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold.

    scikit-learn compares float32 features with float64 thresholds: rounded down, and only
    down, every float32 feature falls on the same side.
    """
    rounded = threshold.astype(np.float32)
    above = rounded.astype(np.float64) > threshold
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
