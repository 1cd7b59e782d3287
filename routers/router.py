"""A router: standardisation, a model of one of four kinds, and the tiers that never vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from adaptive.routers.checks import floats, indices, sizes
from adaptive.routers.linear import Logistic, Perceptron
from adaptive.routers.neighbours import Neighbours
from adaptive.routers.trees import Trees

KINDS: tuple[str, ...] = ("logistic", "mlp", "knn", "trees")
Model = Logistic | Perceptron | Neighbours | Trees

_MODELS: dict[str, type[Logistic | Perceptron | Neighbours]] = {
    "logistic": Logistic,
    "mlp": Perceptron,
    "knn": Neighbours,
}
_OWN = ("mean", "gain", "share", "varying")


class Router(nn.Module):
    """Estimates for each tier the probability that its last answer is worse than the full's.

    mean, gain [F] standardise the features. share [m] is each tier's smoothed share of worse
    answers; the tiers listed in varying [o] ask the model instead. Without varying tiers
    there is no model. Keep the buffers float32: move it with `.to(device)`.
    """

    mean: torch.Tensor
    gain: torch.Tensor
    share: torch.Tensor
    varying: torch.Tensor

    def __init__(
        self,
        kind: str,
        model: Model | None,
        *,
        mean: torch.Tensor,
        gain: torch.Tensor,
        share: torch.Tensor,
        varying: torch.Tensor,
    ) -> None:
        super().__init__()
        _check_kind(kind)
        (self.inputs,), (self.tiers,) = sizes("mean", mean, 1), sizes("share", share, 1)
        (outputs,) = sizes("varying", varying, 1)
        self.kind = kind
        self.model = model
        self.register_buffer("mean", floats("mean", mean, (self.inputs,)))
        self.register_buffer("gain", floats("gain", gain, (self.inputs,)))
        self.register_buffer("share", floats("share", share, (self.tiers,)))
        self.register_buffer("varying", indices("varying", varying, (outputs,), self.tiers))
        found = (self.inputs, 0) if model is None else (model.inputs, model.outputs)
        if found != (self.inputs, outputs):
            raise ValueError(
                f"router's model takes {found[0]} features to {found[1]} tiers, expected "
                f"{self.inputs} to {outputs}"
            )

    def standardise(self, features: torch.Tensor) -> torch.Tensor:
        """Features [b, F] at mean 0 and deviation 1; 0 where they were constant."""
        return (features.float() - self.mean) * self.gain

    def risk(self, features: torch.Tensor) -> torch.Tensor:
        """Risk [b, m] in [0, 1] of each tier, for `features.router_features` [b, F].

        Raises:
            ValueError: another number of features than it was fitted on.
        """
        if features.shape[1] != self.inputs:
            raise ValueError(
                f"router was fitted on {self.inputs} features, found {features.shape[1]}"
            )
        risk = self.share.repeat(len(features), 1)
        if self.model is not None:
            risk[:, self.varying] = self.model(self.standardise(features))
        return risk

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The same as `risk`."""
        return self.risk(features)


def work_per_text(router: Router) -> float:
    """Multiply-adds that routing one text takes, its standardisation included."""
    return float(router.inputs) + (0.0 if router.model is None else router.model.work())


def to_state(router: Router) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What to write: values for a JSON file, and tensors by name for a safetensors file."""
    described = {"kind": router.kind, "features": router.inputs, "tiers": router.tiers}
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()
    }
    return described, tensors


def from_state(described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Router:
    """The inverse of `to_state`. Nothing of what it is given is trusted.

    Raises:
        ValueError: unknown kind, missing or foreign tensors, shapes or indices that do not
            fit; the message gives what was found and what was expected.
    """
    if set(described) != {"kind", "features", "tiers"}:
        raise ValueError(
            f"router is described by {sorted(described)}, expected kind, features, tiers"
        )
    kind = described["kind"]
    _check_kind(kind)
    missing = [name for name in _OWN if name not in tensors]
    if missing:
        raise ValueError(f"router lacks tensors {missing}")
    inputs = tensors["mean"].numel()
    model_tensors = {name: value for name, value in tensors.items() if name not in _OWN}
    router = Router(
        kind,
        _model(kind, inputs, model_tensors) if tensors["varying"].numel() else None,
        **{name: tensors[name] for name in _OWN},
    )
    for name, found in (("features", router.inputs), ("tiers", router.tiers)):
        if described[name] != found:
            raise ValueError(f"router is described with {described[name]} {name}, holds {found}")
    return router


def _model(kind: str, inputs: int, tensors: dict[str, torch.Tensor]) -> Model:
    cls = Trees if kind == "trees" else _MODELS[kind]
    expected = {f"model.{name}" for name in cls.TENSORS}
    if set(tensors) != expected:
        raise ValueError(
            f"router of kind {kind} holds tensors {sorted(tensors)}, expected {sorted(expected)}"
        )
    own = {name.removeprefix("model."): value for name, value in tensors.items()}
    if kind == "trees":
        return Trees(inputs, **own)
    return cast(Model, _MODELS[kind](**own))


def _check_kind(kind: object) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of router {kind!r}, expected one of {', '.join(KINDS)}")
