"""First-order importance: what the loss would lose with a head, a neuron or a layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.tiers.backbone import Backbone
from adaptive.tiers.surgery import Shape, sizes_of


@dataclass(frozen=True, slots=True)
class Importance:
    """Scores by layer; higher is worth more."""

    layers: torch.Tensor  # [l]
    heads: list[torch.Tensor]  # l times [heads]
    neurons: list[torch.Tensor]  # l times [width]


def measure_importance(
    backbone: Backbone,
    losses: Callable[[int], tuple[torch.Tensor, NDArray[np.int64]]],
    batches: int,
) -> Importance:
    """Expected |activation x gradient| of each part, over `batches` calls of `losses`.

    The first Taylor term of the change in loss when the part's output becomes zero: for heads
    Michel et al. 2019 (arXiv:1905.10650, equation 2), for neurons Molchanov et al. 2019
    (arXiv:1906.10771, equation 8). For a layer it is what the layer adds to its input.

    Args:
        losses: of a batch, given its number: the loss, and the tokens of each text [b].
    """
    sizes, plan = sizes_of(backbone), backbone.family.pruning
    found = Importance(
        torch.zeros(len(sizes.heads)),
        [torch.zeros(count) for count in sizes.heads],
        [torch.zeros(count) for count in sizes.widths],
    )
    lengths: list[int] = []  # of the batch whose gradients arrive
    with ExitStack() as hooks:
        for index, layer in enumerate(backbone.blocks):
            attended, falling = (
                layer.get_submodule(plan.attended),
                layer.get_submodule(plan.falling),
            )
            for hook in (
                attended.register_forward_pre_hook(_watch(found.heads[index], lengths)),
                falling.register_forward_pre_hook(_watch(found.neurons[index], lengths)),
                layer.register_forward_hook(_watch_layer(found.layers[index : index + 1], lengths)),
            ):
                hooks.callback(hook.remove)
        for number in range(batches):
            loss, tokens = losses(number)
            lengths[:] = tokens.tolist()
            loss.backward()  # type: ignore[no-untyped-call]
            backbone.zero_grad(set_to_none=True)
    return found


def choose(
    found: Importance,
    layers: int,
    heads: float,
    widths: float,
    multiple: int,
    *,
    keep_first: bool = False,
) -> Shape:
    """The most important layers, and in each the most important heads and neurons.

    Args:
        layers: how many to keep.
        heads, widths: shares to keep; widths are rounded to `multiple`, at least one of it.
        keep_first: layer 0 is kept whatever it scores.
    """
    scores = found.layers.clone()
    if keep_first:
        scores[0] = torch.inf
    kept = sorted(scores.topk(layers).indices.tolist())
    return Shape(
        layers=tuple(kept),
        heads=tuple(_top(found.heads[i], max(1, round(heads * len(found.heads[i])))) for i in kept),
        widths=tuple(
            _top(found.neurons[i], _rounded(widths * len(found.neurons[i]), multiple)) for i in kept
        ),
    )


def _rounded(width: float, multiple: int) -> int:
    return max(multiple, round(width / multiple) * multiple)


def _top(scores: torch.Tensor, count: int) -> tuple[int, ...]:
    return tuple(sorted(scores.topk(min(count, len(scores))).indices.tolist()))


def _watch(scores: torch.Tensor, lengths: list[int]) -> Callable[[nn.Module, Any], None]:
    """Adds, once the gradient is there, each unit's score; units are equal runs of columns."""

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        # A hook that held its own tensor would keep the batch's whole graph for good: the circle
        # runs through autograd, where Python does not see it.
        values, seen = inputs[0], inputs[0].detach()

        def arrived(gradient: torch.Tensor) -> None:
            product = (seen * gradient).float()
            by_unit = product.view(*product.shape[:2], len(scores), -1).sum(-1)
            scores.add_(_by_text(by_unit, lengths).abs().sum(0).cpu())

        values.register_hook(arrived)  # type: ignore[no-untyped-call]

    return before


def _watch_layer(score: torch.Tensor, lengths: list[int]) -> Callable[[nn.Module, Any, Any], None]:
    def after(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        values = output if isinstance(output, torch.Tensor) else output[0]
        added = (values - inputs[0]).detach()

        def arrived(gradient: torch.Tensor) -> None:
            product = (added * gradient).float().sum(-1, keepdim=True)
            score.add_(_by_text(product, lengths).abs().sum(0).cpu())

        values.register_hook(arrived)

    return after


def _by_text(values: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Sums over the tokens of each text, [b, u], of packed [1, t, u] or padded [b, w, u]."""
    if len(values) == len(lengths):
        return values.sum(1)
    return torch.stack([part.sum(0) for part in torch.split(values[0], lengths)])
