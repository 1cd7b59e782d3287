"""A router survives its files unchanged, and files that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptive.routers import Router, from_state, to_state
from adaptive.routers.fit import fit_router
from adaptive.routers.router import KINDS


def fitted(kind: str) -> tuple[Router, torch.Tensor]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5)).astype(np.float32)
    noisy = features[:, :2] + rng.normal(size=(120, 2)) > 0
    worse = np.concatenate([noisy, np.zeros((120, 1), bool)], axis=1)
    return fit_router(kind, features, worse, seed=0), torch.from_numpy(features)


@pytest.mark.parametrize("kind", KINDS)
def test_files_give_back_the_same_router(kind: str, tmp_path: Path) -> None:
    router, features = fitted(kind)
    described, tensors = to_state(router)
    save_file(tensors, tmp_path / "router.safetensors")
    again = from_state(
        json.loads(json.dumps(described)), load_file(tmp_path / "router.safetensors")
    )
    assert again.kind == kind
    assert torch.equal(again.risk(features), router.risk(features))


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_without_varying_tiers_survives_too(kind: str) -> None:
    router = fit_router(kind, np.zeros((3, 2)), np.zeros((3, 2), bool), seed=0)
    again = from_state(*to_state(router))
    assert torch.equal(again.risk(torch.ones(4, 2)), torch.full((4, 2), 0.2))


def test_unknown_kinds_and_wrong_descriptions_are_refused() -> None:
    described, tensors = to_state(fitted("logistic")[0])
    with pytest.raises(ValueError, match="unknown kind of router 'pickle'"):
        from_state({**described, "kind": "pickle"}, tensors)
    with pytest.raises(ValueError, match="unknown kind of router"):
        from_state({**described, "kind": ["knn"]}, tensors)
    with pytest.raises(ValueError, match="described with 6 features, holds 5"):
        from_state({**described, "features": 6}, tensors)
    with pytest.raises(ValueError, match="expected kind, features, tiers"):
        from_state({"kind": "logistic"}, tensors)


def test_tensors_of_another_kind_are_refused() -> None:
    described, tensors = to_state(fitted("logistic")[0])
    with pytest.raises(ValueError, match=r"kind mlp holds tensors .*model\.weight.*inner_weight"):
        from_state({**described, "kind": "mlp"}, tensors)
    del tensors["gain"]
    with pytest.raises(ValueError, match=r"lacks tensors .*gain"):
        from_state(described, tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_tensor_is_accepted(kind: str) -> None:
    described, tensors = to_state(fitted(kind)[0])
    for name, tensor in tensors.items():
        other_shape = torch.zeros((*tensor.shape, 2), dtype=tensor.dtype)
        with pytest.raises(ValueError, match=r"expected"):
            from_state(described, {**tensors, name: other_shape})
        other_type = tensor.long() if tensor.is_floating_point() else tensor.float()
        with pytest.raises(ValueError, match=r"must hold"):
            from_state(described, {**tensors, name: other_type})
        if tensor.is_floating_point():
            with pytest.raises(ValueError, match="finite"):
                from_state(described, {**tensors, name: tensor * torch.nan})
        else:
            with pytest.raises(ValueError, match=r"spans .* expected 0 to"):
                from_state(described, {**tensors, name: tensor + 10**6})


def test_routers_are_evaluated_without_gradients() -> None:
    for kind in KINDS:
        router, features = fitted(kind)
        assert not list(router.parameters())
        assert not router.risk(features).requires_grad
