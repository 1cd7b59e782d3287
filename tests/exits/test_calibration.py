"""Calibration finds what the data was made with; reliability is a probability that holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adaptive.exits.calibration import fit_reliability, fit_temperature, reliability_error
from adaptive.exits.measures import FEATURES, History, measure
from adaptive.exits.reliability import Reliability


def calibrated(rows: int, classes: int, seed: int) -> tuple[NDArray, NDArray]:
    """Logits, and labels drawn from their softmax: the right temperature is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((rows, 1))).argmax(1)
    return logits, labels


def exit_features(logits: NDArray, seed: int) -> NDArray:
    b = len(logits)
    pooled = torch.randn(b, 4, generator=torch.Generator().manual_seed(seed))
    tensor = torch.from_numpy(logits)
    features, _ = measure(tensor, pooled, History.start(b, "cpu"), None, torch.zeros(b))
    return features.numpy()


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 20])
def test_temperature_recovers_a_known_scaling(scale: float, classes: int) -> None:
    logits, labels = calibrated(6000, classes, seed=0)
    assert fit_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.08)


def test_temperature_recovers_a_scaling_exactly_from_soft_targets() -> None:
    logits, _ = calibrated(500, 5, seed=1)
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert fit_temperature(logits * 3, soft) == pytest.approx(3, rel=1e-3)


def test_temperature_does_not_depend_on_a_shift_of_the_logits() -> None:
    logits, labels = calibrated(1000, 3, seed=2)
    shift = np.arange(1000)[:, None]
    assert fit_temperature(logits + shift, labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-3
    )


@pytest.mark.parametrize("rows", [8, 80, 2000])
@pytest.mark.parametrize("classes", [2, 4, 150])
@pytest.mark.parametrize("size", [1.0, 3.0, 12.0])
def test_rows_without_a_fault_make_no_score_certain(rows: int, classes: int, size: float) -> None:
    """The mean score is at most what so many rows without a fault allow to hope for."""
    labels = np.arange(rows) % classes
    logits = np.eye(classes)[labels] * size
    temperature = fit_temperature(logits, labels)
    assert 0.2 <= temperature <= 20
    powers = np.exp(logits / temperature)
    score = (powers / powers.sum(1, keepdims=True)).max(1)
    assert (score <= 1 - (1 - 1 / classes) / (rows + 2) + 1e-4).all()


def test_answers_that_are_all_wrong_do_not_ask_for_an_endless_temperature() -> None:
    assert 10 < fit_temperature(np.eye(4) * 3, (np.arange(4) + 1) % 4) <= 20


def test_one_fault_more_or_less_changes_the_temperature_little() -> None:
    """Without the rule it would jump from 2.7 to the bound."""
    logits, labels = np.eye(2)[np.arange(200) % 2] * 12, np.arange(200) % 2
    none = fit_temperature(logits, labels)
    labels[0] = 1 - labels[0]
    one = fit_temperature(logits, labels)
    assert 1 < none < one < 1.5 * none


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "n > 0"),
        (np.zeros((4, 3)), np.zeros(5, int), r"\(5,\).*\(4,\)"),
        (np.zeros((4, 3)), np.array([0, 1, 2, 3]), "0 to 3, expected 0 to 2"),
        (np.zeros((4, 3)), np.array([0, 1, 2, -1]), "-1 to 2"),
        (np.full((1, 2), np.nan), np.array([0]), "finite"),
    ],
)
def test_temperature_refuses_what_it_cannot_fit(
    logits: NDArray, targets: NDArray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, targets)


def test_reliability_is_calibrated_and_ranks_on_rows_it_never_saw() -> None:
    logits, labels = calibrated(12000, 4, seed=3)
    features, ok = exit_features(logits, seed=3), logits.argmax(1) == labels
    reliability = Reliability(2)
    reliability.set_fit(1, fit_reliability(features[:6000], ok[:6000]))
    seen = reliability(1, torch.from_numpy(features[6000:])).numpy()
    held = ok[6000:]
    assert reliability_error(seen, held) < 0.03
    surest = np.argsort(-seen)[:1500]
    assert held[surest].mean() > held.mean() + 0.15


def test_a_stage_that_is_always_right_gets_the_smoothed_constant() -> None:
    features = exit_features(calibrated(98, 3, seed=4)[0], seed=4)
    for ok, expected in ((np.ones(98, bool), 0.99), (np.zeros(98, bool), 0.01)):
        reliability = Reliability(1)
        reliability.set_fit(0, fit_reliability(features, ok))
        seen = reliability(0, torch.randn(5, len(FEATURES)))
        torch.testing.assert_close(seen, torch.full((5,), expected))


def test_a_feature_that_was_constant_is_ignored_when_it_moves() -> None:
    logits, labels = calibrated(600, 3, seed=5)
    features = exit_features(logits, seed=5)
    reliability = Reliability(1)
    reliability.set_fit(0, fit_reliability(features, logits.argmax(1) == labels))
    moved = features.copy()
    moved[:, FEATURES.index("log_length")] = 1e3
    torch.testing.assert_close(
        reliability(0, torch.from_numpy(moved)), reliability(0, torch.from_numpy(features))
    )


def test_reliability_names_the_feature_and_row_that_is_not_finite() -> None:
    features = np.zeros((3, len(FEATURES)))
    features[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"'margin' of row 2"):
        fit_reliability(features, np.array([True, False, True]))
    with pytest.raises(ValueError, match=rf"\(3, 2\).*\(3, {len(FEATURES)}\)"):
        fit_reliability(np.zeros((3, 2)), np.ones(3, bool))


def test_calibration_error_of_known_gaps() -> None:
    ok = np.array([True] * 50 + [False] * 50)
    assert reliability_error(np.full(100, 0.5), ok) == pytest.approx(0)
    assert reliability_error(np.full(100, 0.9), ok) == pytest.approx(0.4)
    assert reliability_error(ok.astype(float), ok) == pytest.approx(0)
    assert reliability_error(1 - ok.astype(float), ok) == pytest.approx(1)


def test_calibration_error_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(6)
    seen = rng.integers(0, 5, 400) / 5
    ok = rng.random(400) < seen
    shuffled = rng.permutation(400)
    assert reliability_error(seen, ok) == pytest.approx(
        reliability_error(seen[shuffled], ok[shuffled])
    )
    with pytest.raises(ValueError, match="n>0"):
        reliability_error(np.zeros(0), np.zeros(0, bool))
