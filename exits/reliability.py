"""From confidence features to a calibrated probability that the answer is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.exits.measures import FEATURES

StageFit = tuple[Sequence[float], Sequence[float], Sequence[float], float]


class Reliability(nn.Module):
    """One temperature and one logistic model a stage, all stages in one set of buffers.

    Letters: k stages, F features (of classes `adaptive.exits.measures.FEATURES`). A new one is
    neutral: temperature 1, reliability 0.5. Keep the buffers float32: move it with `.to(device)`.
    """

    temperature: torch.Tensor  # [k]
    mean: torch.Tensor  # [k, F]
    scale: torch.Tensor  # [k, F]
    weight: torch.Tensor  # [k, F] in standardised space
    bias: torch.Tensor  # [k]

    def __init__(self, stages: int, features: Sequence[str] = FEATURES) -> None:
        """A neutral one; `features` are the names of what it is to read."""
        super().__init__()
        width = len(features)
        self.register_buffer("temperature", torch.ones(stages))
        self.register_buffer("mean", torch.zeros(stages, width))
        self.register_buffer("scale", torch.ones(stages, width))
        self.register_buffer("weight", torch.zeros(stages, width))
        self.register_buffer("bias", torch.zeros(stages))

    @property
    def stages(self) -> int:
        """How many stages it knows."""
        return len(self.temperature)

    def temper(self, stage: int, logits: torch.Tensor) -> torch.Tensor:
        """Logits [b, c] of a stage over its temperature, float32 (Guo et al. 2017)."""
        return logits.float() / self.temperature[stage]

    def forward(self, stage: int, features: torch.Tensor) -> torch.Tensor:
        """Reliability [b] in [0, 1] of a stage's answers with features [b, F]."""
        standard = (features.float() - self.mean[stage]) / self.scale[stage]
        return torch.sigmoid(standard @ self.weight[stage] + self.bias[stage])

    def set_temperature(self, stage: int, temperature: float) -> None:
        """Put what `calibration.fit_temperature` found."""
        self.temperature[stage] = temperature

    def set_fit(self, stage: int, fit: StageFit) -> None:
        """Put what `calibration.fit_reliability` found: mean, scale, weight [F], bias."""
        mean, scale, weight, bias = fit
        for buffer, values in ((self.mean, mean), (self.scale, scale), (self.weight, weight)):
            buffer[stage] = torch.as_tensor(values, dtype=torch.float32)
        self.bias[stage] = float(bias)

    def rows(self, stage: int) -> dict[str, NDArray[np.float32]]:
        """A stage's numbers by name, on the host, as they are now and will be.

        temperature and bias [1], mean and scale [1, F], weight [F, 1].
        """
        # a module's attributes would take a microsecond each
        buffers = self._buffers.items()
        rows = {name: each.numpy()[stage : stage + 1] for name, each in buffers if each is not None}
        return rows | {"weight": rows["weight"].T}

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """The buffers by name, on the host, for a safetensors file."""
        return {name: value.detach().cpu().contiguous() for name, value in self.named_buffers()}

    @staticmethod
    def from_tensors(
        tensors: Mapping[str, torch.Tensor],
        features: Sequence[str] | None = None,
        expected: Sequence[str] = FEATURES,
    ) -> Reliability:
        """The inverse of `to_tensors`.

        Args:
            features: the list that was stored beside the tensors; None for the expected one.
            expected: what is measured now.

        Raises:
            ValueError: names, shapes, values or the features' list are not what this version
                computes; the message gives what was found and what was expected.
        """
        _check_features(expected if features is None else features, expected)
        names = ("temperature", "mean", "scale", "weight", "bias")
        if set(tensors) != set(names):
            raise ValueError(
                f"reliability holds tensors {sorted(tensors)}, expected {sorted(names)}"
            )
        stages = tensors["temperature"].numel()
        reliability = Reliability(stages, expected)
        for name, buffer in reliability.named_buffers():
            found = tensors[name]
            if found.shape != buffer.shape:
                raise ValueError(
                    f"reliability tensor {name} has shape {tuple(found.shape)}, expected "
                    f"{tuple(buffer.shape)} for {stages} stages and {len(expected)} features"
                )
            if not torch.isfinite(found).all():
                raise ValueError(f"reliability tensor {name} holds a value that is not finite")
            if name in ("temperature", "scale") and not (found > 0).all():
                raise ValueError(f"reliability tensor {name} must be above 0 everywhere")
            buffer.copy_(found)
        return reliability


def _check_features(features: Sequence[str], known: Sequence[str]) -> None:
    if len(features) != len(known):
        raise ValueError(
            f"reliability was fitted on {len(features)} features, this version computes "
            f"{len(known)}: fit the exits again"
        )
    for found, expected in zip(features, known, strict=True):
        if found != expected:
            raise ValueError(
                f"reliability was fitted on feature {found!r} where this version computes "
                f"{expected!r}: fit the exits again"
            )
