"""Reliability survives a file unchanged, and refuses what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability


@pytest.fixture
def fitted() -> Reliability:
    generator = torch.Generator().manual_seed(0)
    reliability = Reliability(3)
    for stage in range(3):
        mean, weight = torch.randn(2, len(FEATURES), generator=generator)
        scale = torch.rand(len(FEATURES), generator=generator) + 0.5
        reliability.set_fit(stage, (mean.tolist(), scale.tolist(), weight.tolist(), 0.1 * stage))
        reliability.set_temperature(stage, 1.0 + stage)
    return reliability


def test_stages_are_tempered_each_by_its_own_temperature(fitted: Reliability) -> None:
    logits = torch.tensor([[6.0, 3.0]], dtype=torch.bfloat16)
    assert fitted.temper(0, logits).tolist() == [[6, 3]]
    assert fitted.temper(2, logits).tolist() == [[2, 1]]
    assert fitted.temper(2, logits).dtype == torch.float32


def test_a_new_reliability_is_neutral() -> None:
    reliability = Reliability(2)
    assert reliability(1, torch.randn(3, len(FEATURES))).tolist() == [0.5] * 3


def test_reliability_is_the_logistic_of_standardised_features(fitted: Reliability) -> None:
    features = torch.randn(4, len(FEATURES), generator=torch.Generator().manual_seed(1))
    standard = (features - fitted.mean[1]) / fitted.scale[1]
    expected = 1 / (1 + torch.exp(-((standard * fitted.weight[1]).sum(1) + 0.1)))
    torch.testing.assert_close(fitted(1, features), expected)


def test_a_file_gives_back_the_same_reliability(fitted: Reliability, tmp_path: Path) -> None:
    save_file(fitted.to_tensors(), tmp_path / "reliability.safetensors")
    again = Reliability.from_tensors(load_file(tmp_path / "reliability.safetensors"))
    features = torch.randn(4, len(FEATURES))
    for stage in range(again.stages):
        assert torch.equal(again(stage, features), fitted(stage, features))
    assert torch.equal(again.temperature, fitted.temperature)


def test_tensors_that_do_not_fit_are_refused_with_both_numbers(fitted: Reliability) -> None:
    tensors, width = fitted.to_tensors(), len(FEATURES)
    with pytest.raises(ValueError, match=rf"weight has shape \(3, 2\), expected \(3, {width}\)"):
        Reliability.from_tensors({**tensors, "weight": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match=r"bias has shape \(2,\), expected \(3,\)"):
        Reliability.from_tensors({**tensors, "bias": torch.zeros(2)})
    with pytest.raises(ValueError, match="extra"):
        Reliability.from_tensors({**tensors, "extra": torch.zeros(2)})
    with pytest.raises(ValueError, match="scale must be above 0"):
        Reliability.from_tensors({**tensors, "scale": torch.zeros(3, width)})
    with pytest.raises(ValueError, match="mean holds a value that is not finite"):
        Reliability.from_tensors({**tensors, "mean": tensors["mean"] / 0})


def test_features_of_another_version_are_refused(fitted: Reliability) -> None:
    tensors = fitted.to_tensors()
    with pytest.raises(
        ValueError, match=f"{len(FEATURES) - 1} features, this version computes {len(FEATURES)}"
    ):
        Reliability.from_tensors(tensors, features=FEATURES[:-1])
    with pytest.raises(ValueError, match="'margin' where this version computes 'max_probability'"):
        Reliability.from_tensors(tensors, features=(FEATURES[1], FEATURES[0], *FEATURES[2:]))
