"""Routers of others, fitted on a build's fit rows: how likely each tier is to be worse.

References:
    Ong et al. (2024), RouteLLM, arXiv:2406.18665, section 4: matrix factorisation.
    Li (2025), Rethinking predictive modeling for LLM routing, arXiv:2505.12601: tuned kNN.
    Ding et al. (2024), Hybrid LLM, arXiv:2404.14618, section 3: transformed labels.
    Dekoninck et al. (2025), a unified approach to routing and cascading, arXiv:2410.10347.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from adaptive.policy.worth import worse_of
from adaptive.types import OutcomeTable

Floats = NDArray[np.float64]
Pair = tuple[NDArray[np.floating], NDArray[np.floating]]  # of the rows to fit and to deal
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
NEIGHBOURS = (5, 10, 20, 40, 80, 160)
RANK, STEPS, RATE, PENALTY = 16, 400, 0.02, 1e-3


def routers_of(
    features: dict[str, Pair], fit: OutcomeTable, truth: Floats, sure: Pair
) -> dict[str, Floats]:
    """The risk of each tier on the rows to deal, [n, m] a router; of `after` it is [n, m x m].

    Args:
        features: that routers read, by their kind.
        fit: outcomes of the rows to fit.
        truth: [f, m] probability that each tier gives the true class, on the rows to fit.
        sure: [f, m] and [n, m] how sure each tier is of its answer, once it has one.
    """
    worse = worse_of(fit)
    bag, teacher = (standardised(features[name]) for name in ("bag", "teacher"))
    return {
        "logistic": _each(_logistic, bag, worse),
        "knn": _each(_nearest, bag, worse),
        "matrix": _factorised(bag, worse),
        "hybrid": _each(_logistic, bag, _transformed(truth)),
        "logistic on the teacher": _each(_logistic, teacher, worse),
        "knn on the teacher": _each(_nearest, teacher, worse),
        "after": _after(bag, worse, sure),
    }


def standardised(pair: Pair) -> tuple[Floats, Floats]:
    """Both by the mean and the spread of the rows to fit."""
    mean, scale = pair[0].mean(0), pair[0].std(0) + 1e-6
    fit, pool = ((each - mean) / scale for each in pair)
    return fit.astype(np.float64), pool.astype(np.float64)


def _each(router, pair: Pair, worse: NDArray[np.bool_]) -> Floats:  # type: ignore[no-untyped-def]
    """A column for each tier, fitted by itself; the full tier is as good as itself."""
    risk = np.zeros((len(pair[1]), worse.shape[1]))
    for tier, outcome in enumerate(worse.T[:-1]):
        few = min(outcome.sum(), (~outcome).sum()) < 5  # none in some fold
        risk[:, tier] = outcome.mean() if few else router(*pair, outcome)
    return risk


def _best(models: list, fit: Floats, outcome: NDArray[np.bool_]):  # type: ignore[no-untyped-def]
    """The model of the least squared error out of fold, fitted to all rows."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def error(model) -> float:  # type: ignore[no-untyped-def]
        told = cross_val_predict(model, fit, outcome, cv=folds, method="predict_proba")[:, 1]
        return float(((told - outcome) ** 2).mean())

    return min(models, key=error).fit(fit, outcome)


def _logistic(fit: Floats, pool: Floats, outcome: NDArray[np.bool_]) -> Floats:
    models = [LogisticRegression(C=c, max_iter=300) for c in STRENGTHS]
    found: Floats = _best(models, fit, outcome).predict_proba(pool)[:, 1]
    return found


def _nearest(fit: Floats, pool: Floats, outcome: NDArray[np.bool_]) -> Floats:
    """By cosine; how many neighbours is tuned out of fold, as Li (2025) does on held-out rows."""
    counts = [k for k in NEIGHBOURS if k < 0.8 * len(fit)]
    models = [KNeighborsClassifier(k, metric="cosine", algorithm="brute") for k in counts]
    found: Floats = _best(models, fit, outcome).predict_proba(pool)[:, 1]
    return found


def _factorised(pair: Pair, worse: NDArray[np.bool_]) -> Floats:
    """P(full beats tier) = sigmoid(s(full, q) - s(tier, q)) with s(M, q) = v_M . (W q + b).

    Low rank ties the tiers together. Fitted by Adam to which of the two was better on each row.
    """
    fit, pool = (np.column_stack([each, np.ones(len(each))]) for each in pair)
    draw = np.random.default_rng(0)
    size, tiers = fit.shape[1], worse.shape[1]
    weights = [draw.normal(0, 0.1, (size, RANK)), draw.normal(0, 0.1, (tiers, RANK))]
    first = [np.zeros_like(each) for each in weights]
    second = [np.zeros_like(each) for each in weights]

    def risk(rows: Floats) -> Floats:
        scores = rows @ weights[0] @ weights[1].T
        return 1.0 / (1.0 + np.exp(scores - scores[:, [-1]]))

    for step in range(1, STEPS + 1):
        slope = (risk(fit) - worse) / len(fit)  # of the loss by s(full) - s(tier)
        slope = np.column_stack([-slope[:, :-1], slope[:, :-1].sum(1)])  # by each tier's score
        slopes = [fit.T @ (slope @ weights[1]), slope.T @ (fit @ weights[0])]
        for place, each in enumerate(slopes):
            each = each + PENALTY * weights[place]
            first[place] = 0.9 * first[place] + 0.1 * each
            second[place] = 0.999 * second[place] + 0.001 * each**2
            mean, square = first[place] / (1 - 0.9**step), second[place] / (1 - 0.999**step)
            weights[place] = weights[place] - RATE * mean / (np.sqrt(square) + 1e-8)
    found = risk(pool)
    found[:, -1] = 0.0
    return found


def _transformed(truth: Floats) -> NDArray[np.bool_]:
    """Whether a tier falls behind the full one by more than t; t makes labels differ the most.

    That is r_trans: the mean of |y_i - y_j| over pairs is greatest where half of them are 1. Here
    the quality of an answer is the probability of the true class.
    """
    gap = truth[:, [-1]] - truth
    cut = np.maximum(np.median(gap, axis=0), 0.0)
    found: NDArray[np.bool_] = gap > cut
    found[:, -1] = False
    return found


def _after(pair: Pair, worse: NDArray[np.bool_], sure: Pair) -> Floats:
    """The risk of each tier once the tiers up to another have answered, [n, m x m].

    What is known then is what the router reads and how sure those tiers are.
    """
    tiers, found = worse.shape[1], []
    for tier in range(tiers):
        known = standardised((sure[0][:, : tier + 1], sure[1][:, : tier + 1]))
        both = tuple(np.column_stack([a, b]) for a, b in zip(pair, known, strict=True))
        found.append(_each(_logistic, (both[0], both[1]), worse))
    return np.concatenate(found, 1)
