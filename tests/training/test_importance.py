"""What is cut from the mid tier: the parts that matter least."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_transformers import CONFIGS, packed, tiny_backbone, tiny_rows
from torch import nn
from torch.nn import functional

from adaptive.tiers.backbone import Backbone
from adaptive.tiers.surgery import shrink, sizes_of
from adaptive.training.learn.importance import Importance, choose, measure_importance


def scores(backbone: Backbone, batches: int = 2) -> Importance:
    """Importance for the loss against fixed labels."""
    return measure_importance(backbone, losses_of(backbone), batches)


def losses_of(backbone: Backbone) -> Callable[[int], tuple[torch.Tensor, NDArray[np.int64]]]:
    batch = packed(tiny_rows((12, 5, 9, 7)))
    labels = torch.tensor([0, 1, 2, 1])

    def losses(number: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
        state = backbone.run(backbone.embed(batch), 0, backbone.layers)
        return functional.cross_entropy(backbone.classify(state), labels), batch.lengths

    return losses


def linear(layer: nn.Module, path: str) -> nn.Linear:
    found = layer.get_submodule(path)
    assert isinstance(found, nn.Linear)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_every_part_of_every_family_gets_a_score(name: str) -> None:
    backbone = tiny_backbone(name)
    found, sizes = scores(backbone), sizes_of(backbone)
    assert tuple(map(len, found.heads)) == sizes.heads
    assert tuple(map(len, found.neurons)) == sizes.widths
    assert (found.layers > 0).all()
    assert all((each > 0).all() for each in found.heads)
    assert all((each > 0).float().mean() > 0.5 for each in found.neurons)  # some never fire
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_nothing_of_a_batch_is_kept_once_it_is_scored() -> None:
    backbone, seen = tiny_backbone("bert"), list[weakref.ref[torch.Tensor]]()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            seen.append(weakref.ref(output))

    for module in backbone.modules():
        module.register_forward_hook(note)
    scores(backbone)
    gc.collect()
    assert len(seen) > 20
    assert not [each for each in seen if each() is not None]


@pytest.mark.parametrize("name", ["bert", "llama", "modernbert"])
def test_parts_whose_output_is_zero_matter_least(name: str) -> None:
    backbone = tiny_backbone(name)
    plan, head, neuron = backbone.family.pruning, 1, 5
    layer = backbone.blocks[2]
    count = sizes_of(backbone).heads[2]
    with torch.no_grad():
        attended = linear(layer, plan.attended).weight
        columns = attended.shape[1] // count
        attended[:, head * columns : (head + 1) * columns] = 0
        linear(layer, plan.falling).weight[:, neuron] = 0
    found = scores(backbone)
    assert int(found.heads[2].argmin()) == head and found.heads[2][head] == 0
    assert int(found.neurons[2].argmin()) == neuron and found.neurons[2][neuron] == 0
    assert found.heads[1].min() > 0


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_parts_whose_output_is_large_matter_most(name: str) -> None:
    backbone = tiny_backbone(name)
    plan, head, neuron = backbone.family.pruning, 1, 5
    layer = backbone.blocks[1]
    count = sizes_of(backbone).heads[1]
    with torch.no_grad():
        attended = linear(layer, plan.attended).weight
        columns = attended.shape[1] // count
        attended[:, head * columns : (head + 1) * columns] *= 20
        linear(layer, plan.falling).weight[:, neuron] *= 20
    found = scores(backbone)
    assert int(found.heads[1].argmax()) == head
    assert int(found.neurons[1].argmax()) == neuron


def test_a_layer_that_changes_nothing_matters_least() -> None:
    backbone = tiny_backbone("llama")  # its layers add to their input, so one can be silenced
    plan = backbone.family.pruning
    with torch.no_grad():
        for path in (plan.attended, plan.falling):
            linear(backbone.blocks[2], path).weight.zero_()
    found = scores(backbone)
    assert int(found.layers.argmin()) == 2 and found.layers[2] == 0
    assert choose(found, 3, 1.0, 1.0, 1).layers == (0, 1, 3)


def test_the_score_is_the_first_order_change_of_the_loss() -> None:
    """Against the loss with a neuron turned down by a thousandth, on a single text."""
    backbone = tiny_backbone("bert").double()
    batch = packed(tiny_rows((9,)))
    falling = linear(backbone.blocks[1], backbone.family.pruning.falling)

    def loss() -> torch.Tensor:
        state = backbone.run(backbone.embed(batch), 0, backbone.layers)
        return functional.cross_entropy(backbone.classify(state), torch.tensor([1]))

    found = measure_importance(backbone, lambda number: (loss(), batch.lengths), 1).neurons[1]
    with torch.no_grad():
        before = float(loss())
        for neuron in (0, 3, 11):
            kept = falling.weight[:, neuron].clone()
            falling.weight[:, neuron] *= 0.999
            change = abs(float(loss()) - before) * 1000
            falling.weight[:, neuron] = kept
            assert float(found[neuron]) == pytest.approx(change, rel=0.02)


def made_up(heads: int = 4, width: int = 48) -> Importance:
    return Importance(
        torch.tensor([3.0, 1.0, 2.0, 4.0]),
        [torch.arange(heads).float().roll(i) for i in range(4)],
        [torch.arange(width).float() for _ in range(4)],
    )


def test_the_best_layers_and_parts_are_kept_in_their_order() -> None:
    shape = choose(made_up(), layers=2, heads=0.5, widths=0.5, multiple=8)
    assert shape.layers == (0, 3)
    assert shape.heads == ((2, 3), (1, 2))  # the scores of layer 3 are turned by three
    assert shape.widths == (tuple(range(24, 48)),) * 2


@pytest.mark.parametrize(
    ("share", "multiple", "kept"),
    [(1.0, 32, 48), (0.5, 32, 32), (0.1, 32, 32), (0.7, 16, 32), (0.8, 16, 32), (0.9, 16, 48),
     (0.01, 1, 1), (0.5, 64, 48)],
)  # fmt: skip
def test_widths_are_rounded_to_a_multiple_never_to_none_or_more_than_there_are(
    share: float, multiple: int, kept: int
) -> None:
    shape = choose(made_up(), 1, 1.0, share, multiple)
    assert len(shape.widths[0]) == kept


def test_one_head_at_least_is_kept() -> None:
    assert choose(made_up(), 1, 0.01, 1.0, 1).heads == ((2,),)


def test_a_first_layer_unlike_the_others_is_kept_whatever_it_scores() -> None:
    found = Importance(torch.tensor([0.0, 1.0, 2.0]), made_up().heads[:3], made_up().neurons[:3])
    assert choose(found, 2, 1.0, 1.0, 1).layers == (1, 2)
    assert choose(found, 2, 1.0, 1.0, 1, keep_first=True).layers == (0, 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_can_be_cut_to_what_was_chosen(name: str) -> None:
    backbone = tiny_backbone(name)
    family = backbone.family
    shape = choose(
        scores(backbone, 1),
        2,
        0.5 if family.pruning.heads else 1.0,
        0.5,
        8,
        keep_first=family.first_layer_differs,
    )
    small = shrink(backbone, shape)
    assert sizes_of(small).widths == (24, 24)
    assert sum(small.layer_work(i) for i in range(2)) < sum(backbone.layer_work(i) for i in (0, 1))
