"""Every kind of router learns what can be learnt, repeats itself, and owns up to the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from adaptive.routers import Router, work_per_text
from adaptive.routers.fit import fit_router
from adaptive.routers.fit_boosted import export
from adaptive.routers.neighbours import MOST_ROWS, Neighbours
from adaptive.routers.router import KINDS

FEATURES = 8


def outcomes(rows: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Features, outcomes of two tiers that depend on them and one that never is worse, risk."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, FEATURES)).astype(np.float32) * 3 + 7
    features[:, 5] = 2.0
    standard = (features - 7) / 3
    odds = np.stack([2.5 * standard[:, 0] - 1, 2 * standard[:, 1] + standard[:, 0] - 2], axis=1)
    risk = np.concatenate([1 / (1 + np.exp(-odds)), np.zeros((rows, 1))], axis=1)
    return features, rng.random((rows, 3)) < risk, risk


@pytest.fixture(scope="module")
def routers() -> dict[str, Router]:
    features, worse, _ = outcomes(2000, seed=0)
    return {kind: fit_router(kind, features, worse, seed=0) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_risk_ranks_and_is_calibrated_on_unseen_texts(
    kind: str, routers: dict[str, Router]
) -> None:
    features, worse, true = outcomes(3000, seed=1)
    risk = routers[kind].risk(torch.from_numpy(features)).numpy()
    assert risk.shape == (3000, 3)
    assert ((risk >= 0) & (risk <= 1)).all()
    for tier in range(2):
        ceiling = roc_auc_score(worse[:, tier], true[:, tier])
        assert roc_auc_score(worse[:, tier], risk[:, tier]) > ceiling - 0.06
        base = log_loss(worse[:, tier], np.full(3000, worse[:, tier].mean()))
        assert log_loss(worse[:, tier], risk[:, tier]) < base - 0.07
        assert abs(risk[:, tier].mean() - worse[:, tier].mean()) < 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_a_tier_that_never_varied_gets_the_smoothed_constant(
    kind: str, routers: dict[str, Router]
) -> None:
    risk = routers[kind].risk(torch.randn(7, FEATURES))
    torch.testing.assert_close(risk[:, 2], torch.full((7,), 1 / 2002))


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_that_was_constant_is_ignored_when_it_moves(
    kind: str, routers: dict[str, Router]
) -> None:
    features = torch.from_numpy(outcomes(50, seed=2)[0])
    moved = features.clone()
    moved[:, 5] = 1e4
    torch.testing.assert_close(routers[kind].risk(moved), routers[kind].risk(features))


@pytest.mark.parametrize("kind", KINDS)
def test_risk_of_a_text_does_not_depend_on_its_batch_mates(
    kind: str, routers: dict[str, Router]
) -> None:
    features = torch.from_numpy(outcomes(40, seed=3)[0])
    together = routers[kind].risk(features)
    alone = torch.cat([routers[kind].risk(row) for row in features.split(1)])
    torch.testing.assert_close(together, alone)
    assert routers[kind].risk(features[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_router_and_leaves_the_callers_seed_alone(kind: str) -> None:
    features, worse, _ = outcomes(150, seed=4)
    torch.manual_seed(11)
    first = fit_router(kind, features, worse, seed=5)
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1))
    second = fit_router(kind, features, worse, seed=5)
    rows = torch.from_numpy(features)
    assert torch.equal(first.risk(rows), second.risk(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_handful_of_rows_and_failures_is_enough_to_fit(kind: str, failures: int) -> None:
    features = outcomes(6, seed=6)[0]
    worse = np.zeros((6, 2), bool)
    worse[:failures, 0] = True
    risk = fit_router(kind, features, worse, seed=0).risk(torch.from_numpy(features))
    assert risk.isfinite().all()
    assert risk[:, 0].mean() == pytest.approx((failures + 1) / 8, abs=0.2)


def test_trees_decide_as_scikit_learns_do() -> None:
    rng = np.random.default_rng(7)
    # Few distinct values: thresholds fall between them, and many rows sit near one.
    features = (rng.integers(0, 9, (1500, 6)) / np.float32(10)).astype(np.float32)
    worse = np.stack([features.sum(1) > 2.4, features[:, 0] > features[:, 1]], axis=1)
    worse ^= rng.random(worse.shape) < 0.1
    sizes = ((30, 3), (30, 5))
    models = [
        GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=0).fit(
            features, column
        )
        for (trees, depth), column in zip(sizes, worse.T, strict=True)
    ]
    share = worse.mean(0)
    trees = export(models, np.log(share / (1 - share)), 6)
    expected = np.stack([model.predict_proba(features)[:, 1] for model in models], axis=1)
    found = trees(torch.from_numpy(features))
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)


def test_a_feature_on_a_threshold_goes_the_same_way_as_in_scikit_learn() -> None:
    # Neighbours among the float32s: the float64 half-way between rounds up to the higher.
    low = np.nextafter(np.float32(2), np.float32(3))
    high = np.nextafter(low, np.float32(3))
    features = np.array([[low]] * 20 + [[high]] * 20, dtype=np.float32)
    model = GradientBoostingClassifier(n_estimators=1, max_depth=1).fit(
        features, features[:, 0] > low
    )
    threshold = model.estimators_[0, 0].tree_.threshold[0]
    assert low < threshold < high
    assert np.float32(threshold) == high
    found = export([model], np.zeros(1), 1)(torch.from_numpy(features))[:, 0]
    assert found[0] < found[-1]


def test_neighbours_are_scikit_learns() -> None:
    rng = np.random.default_rng(8)
    rows, worse = rng.normal(size=(300, 5)).astype(np.float32), rng.random((300, 1)) < 0.4
    asked = rng.normal(size=(50, 5)).astype(np.float32)
    model = KNeighborsClassifier(n_neighbors=9, algorithm="brute").fit(rows, worse[:, 0])
    share = model.predict_proba(asked)[:, 1]
    stored = Neighbours(torch.from_numpy(rows), torch.from_numpy(worse).float(), torch.tensor(9))
    expected = (share * 9 + worse.mean()) / 10
    torch.testing.assert_close(
        stored(torch.from_numpy(asked))[:, 0], torch.from_numpy(expected).float()
    )


def test_neighbours_store_no_more_rows_than_they_may() -> None:
    features, worse, _ = outcomes(MOST_ROWS + 100, seed=9)
    router = fit_router("knn", features, worse, seed=0)
    assert work_per_text(router) == FEATURES + MOST_ROWS * FEATURES


def test_work_counts_every_multiply_add(routers: dict[str, Router]) -> None:
    assert work_per_text(routers["logistic"]) == FEATURES + FEATURES * 2
    assert work_per_text(routers["mlp"]) == FEATURES + FEATURES * 64 + 64 * 2
    assert work_per_text(routers["trees"]) == FEATURES + 2 * 100 * 3
    nothing = fit_router("mlp", np.zeros((4, FEATURES)), np.zeros((4, 2), bool), seed=0)
    assert work_per_text(nothing) == FEATURES


def test_what_cannot_be_fitted_is_refused() -> None:
    features, worse = np.zeros((4, 3)), np.zeros((4, 2), bool)
    with pytest.raises(ValueError, match="'forest', expected one of logistic, mlp, knn, trees"):
        fit_router("forest", features, worse, seed=0)
    with pytest.raises(ValueError, match=r"\(4, 3\) and worse \(3, 2\)"):
        fit_router("knn", features, worse[:3], seed=0)
    features[2, 1] = np.inf
    with pytest.raises(ValueError, match="row 2 are not finite"):
        fit_router("knn", features, worse, seed=0)


def test_features_of_another_width_are_refused(routers: dict[str, Router]) -> None:
    with pytest.raises(ValueError, match="fitted on 8 features, found 9"):
        routers["logistic"].risk(torch.zeros(2, 9))
