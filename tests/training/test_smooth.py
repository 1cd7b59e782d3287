"""Expected losses stand in for the labels of the texts that stages answer differently."""

from __future__ import annotations

import numpy as np
import torch
from tiny_outcomes import saying

from adaptive.bundle.contents import stages_of
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import Record
from adaptive.policy.lookup import Lookup, single_stage
from adaptive.policy.search import refine
from adaptive.policy.targets import excess, mean_excess
from adaptive.policy.worth import classified
from adaptive.training.smooth import chances, expected_drop, fit_pool
from adaptive.types import OutcomeTable, StageCosts, Target

STAGES = stages_of(((0,), (0,)))
TARGET = Target("accuracy_drop", 0.01)


def world(seed: int, rows: int, sharpness: float = 1.0) -> tuple[Record, OutcomeTable, np.ndarray]:
    """Texts whose full tier knows the true posterior, stated too sharply, and a cheap stage."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, (rows, 3))
    posterior = np.exp(truth) / np.exp(truth).sum(1, keepdims=True)
    labels = (posterior.cumsum(1) > rng.random((rows, 1))).argmax(1).astype(np.int32)
    cheap = truth + rng.normal(0, 1.0, truth.shape)
    logits = [torch.tensor(cheap).float(), torch.tensor(truth * sharpness).float()]
    predictions = np.stack([each.argmax(1).numpy() for each in logits], 1).astype(np.int32)
    table = classified(
        STAGES,
        predictions,
        np.full((rows, 2), 0.5, np.float32),
        np.zeros((rows, 2), np.float32),
        labels,
        np.ones(rows, np.int64),
    )
    true = np.take_along_axis(posterior, predictions.astype(np.int64), 1)
    record = Record(STAGES, logits, [torch.zeros(rows, 1)] * 2, None)  # type: ignore[arg-type]
    return record, table, true[:, 1] - true[:, 0]


def smoothed(seed: int, rows: int, sharpness: float) -> tuple[float, ...]:
    """Mean loss of the cheap stage on texts it is sure of: as expected, by the labels, truly."""
    record, table, true = world(seed, rows, sharpness)
    fit, known, _ = world(1000 + seed, rows, sharpness)
    neutral = Reliability(2)
    weights = fit_pool([fit], neutral, known.labels)
    chance = [chances(each, neutral, weights) for each in (fit, record)]
    drop = expected_drop([known, table], chance, 1)
    right = table.predictions == table.labels[:, None]
    said = right[:, 1].astype(float) - right[:, 0]
    sure = record.logits[0].softmax(1).amax(1).numpy() > 0.7
    return tuple(float(each[sure].mean()) for each in (drop[:, 0], said, true))


def test_expected_losses_are_nearer_the_truth_than_labels_however_sharp_the_tiers_are() -> None:
    for sharpness in (1.0, 3.0):
        found = np.array([smoothed(seed, 400, sharpness) for seed in range(40)])
        expected, labels = found[:, 0] - found[:, 2], found[:, 1] - found[:, 2]
        assert abs(expected.mean()) < 3 * expected.std() / np.sqrt(40) + 0.003
        assert np.square(expected).mean() < 0.7 * np.square(labels).mean()


def test_the_regression_takes_away_what_is_wrong_with_the_pool() -> None:
    _, table, true = world(0, 20000)
    flattering = np.tile(np.array([0.5, 0.4]), (20000, 1))  # the cheap stage seems the better one
    drop = expected_drop([table], [flattering], 0)
    assert np.isclose(drop.mean(0)[0], true.mean(), atol=0.01)


def test_answers_like_the_full_tiers_lose_nothing() -> None:
    record, table, _ = world(0, 200)
    neutral = Reliability(2)
    chance = chances(record, neutral, fit_pool([record], neutral, table.labels))
    drop = expected_drop([table], [chance], 0)
    same = table.predictions[:, 0] == table.predictions[:, 1]
    assert same.any() and not drop[same].any() and not drop[:, 1].any()
    assert drop[~same, 0].all()


def test_the_search_counts_the_expected_losses_where_it_has_them() -> None:
    _, table, _ = world(0, 300)
    costs = np.zeros((300, 2))
    priced = StageCosts("coins", costs, costs + np.array([1.0, 10.0]), costs, np.zeros(300))
    plain = Lookup.of(table, priced)
    cheap = single_stage(STAGES, 0)
    assert refine(plain, TARGET, cheap, margin=0.0, sweeps=1) is None
    free = Lookup.of(table, priced, np.zeros((300, 2)))
    found = refine(free, TARGET, cheap, margin=0.0, sweeps=1)
    assert found is not None and found.policy == cheap


def test_a_drop_that_repeats_the_labels_changes_no_target() -> None:
    _, table, _ = world(1, 300)
    result = saying(table.predictions[:, 0], table)
    right = table.predictions == table.labels[:, None]
    drop = right[:, 1].astype(float) - right[:, 0]
    for metric in ("agreement", "accuracy_drop", "accuracy"):
        target = Target(metric, 0.1)  # type: ignore[arg-type]
        said = excess(target, result, table)
        assert np.allclose(excess(target, result, table, drop), said)
        assert np.allclose(mean_excess([target], result, table, drop)[0], said.mean())
