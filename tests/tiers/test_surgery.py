"""Cut models are really smaller and compute what the kept parts did."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_transformers import CONFIGS, own_logits, packed, segment_logits, tiny_backbone, tiny_rows

from adaptive.errors import FamilyError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.narrow import narrow, narrow_config
from adaptive.tiers.projection import principal_directions, project
from adaptive.tiers.surgery import Shape, Sizes, reshape, shrink, sizes_of, whole
from adaptive.types import TokenBatch

EVERY_FAMILY = pytest.mark.parametrize("name", CONFIGS)
LAYERS = (0, 2, 3)
WIDTHS = ((1, 5, 40), (0, 7), tuple(range(48)))


def _shape(backbone: Backbone) -> Shape:
    count = sizes_of(backbone).heads[0]
    if not backbone.family.pruning.heads:
        return Shape(LAYERS, (tuple(range(count)),) * 3, WIDTHS)
    return Shape(LAYERS, ((count - 1,), tuple(range(1, count)), tuple(range(count))), WIDTHS)


def _silence(backbone: Backbone, shape: Shape) -> Backbone:
    """The same model with the outputs of all that the shape leaves out set to zero."""
    silent = Backbone(copy.deepcopy(backbone.model))
    plan = silent.family.pruning
    for layer, heads, widths in zip(shape.layers, shape.heads, shape.widths, strict=True):
        block = silent.blocks[layer]
        counts = (sizes_of(backbone).heads[layer], sizes_of(backbone).widths[layer])
        for path, kept, count in zip(
            (plan.attended, plan.falling), (heads, widths), counts, strict=True
        ):
            weight = block.get_submodule(path).weight.detach()
            for unit in set(range(count)) - set(kept):
                weight.view(len(weight), count, -1)[:, unit] = 0
    return silent


def _logits_of_layers(
    backbone: Backbone, batch: TokenBatch, layers: tuple[int, ...]
) -> torch.Tensor:
    state = backbone.embed(batch)
    for layer in layers:
        state = backbone.run(state, layer, layer + 1)
    return backbone.classify(state)


@EVERY_FAMILY
@torch.no_grad()
def test_a_cut_model_answers_as_the_whole_with_the_rest_silent(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows())
    shape = _shape(backbone)
    before = own_logits(backbone, batch)
    expected = _logits_of_layers(_silence(backbone, shape), batch, LAYERS)
    small = shrink(backbone, shape).eval()
    found = segment_logits(small, batch, (1,))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, before, atol=1e-3)
    # the small model is a model: its own forward agrees
    torch.testing.assert_close(own_logits(small, batch), found)
    # and the big one was not touched
    torch.testing.assert_close(own_logits(backbone, batch), before)


@EVERY_FAMILY
def test_the_matrices_really_shrink(name: str) -> None:
    backbone = tiny_backbone(name)
    shape = _shape(backbone)
    small = shrink(backbone, shape)
    sizes = sizes_of(small)
    assert sizes.heads == tuple(map(len, shape.heads))
    assert sizes.widths == tuple(map(len, shape.widths))
    assert small.layers == small.config.num_hidden_layers == 3
    assert small.layer_work(0) < 0.7 * backbone.layer_work(0)
    assert small.layer_work(2) == backbone.layer_work(3)


@EVERY_FAMILY
def test_keeping_everything_changes_nothing(name: str) -> None:
    backbone = tiny_backbone(name)
    batch = packed(tiny_rows())
    kept = shrink(backbone, whole(backbone))
    with torch.no_grad():
        torch.testing.assert_close(own_logits(kept, batch), own_logits(backbone, batch))


def test_layers_keep_their_own_kind_of_attention() -> None:
    backbone = tiny_backbone("gemma3_text")
    shape = whole(backbone)
    small = shrink(backbone, Shape((1, 2), shape.heads[1:3], shape.widths[1:3]))
    assert small.config.layer_types == ["full_attention", "sliding_attention"]
    assert backbone.config.layer_types[0] == "sliding_attention"


def test_an_empty_model_takes_the_weights_of_a_cut_one() -> None:
    backbone = tiny_backbone("llama")
    small = shrink(backbone, _shape(backbone))
    config = copy.deepcopy(small.config)
    empty = reshape(Backbone(type(backbone.model)(config)), sizes_of(small))
    empty.load_state_dict(small.state_dict(), strict=True)
    batch = packed(tiny_rows())
    with torch.no_grad():
        torch.testing.assert_close(own_logits(empty.eval(), batch), own_logits(small, batch))


def test_cut_models_still_learn() -> None:
    backbone = tiny_backbone("bert")
    small = shrink(backbone, _shape(backbone)).train()
    segment_logits(small, packed(tiny_rows()), (1,)).sum().backward()
    weight = small.blocks[0].get_submodule("intermediate.dense").weight
    assert weight.requires_grad and weight.grad is not None and weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (Shape((), (), ()), "layers: 0 indices"),
        (Shape((0, 4), ((0,), (0,)), ((0,), (0,))), "layers: 2 indices"),
        (Shape((1, 0), ((0,), (0,)), ((0,), (0,))), "layers: 2 indices"),
        (Shape((2,), ((4,),), ((0,),)), "heads of layer 2: 1 indices, expected 1 to 4"),
        (Shape((2,), ((),), ((0,),)), "heads of layer 2: 0 indices"),
        (Shape((2,), ((0,),), ((3, 3),)), "neurons of layer 2: 2 indices, expected 1 to 48"),
        (Shape((2,), ((-1,),), ((0,),)), "heads of layer 2"),
        (Shape((2,), ((0,), (0,)), ((0,),)), "1 layers with heads for 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape: Shape, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        shrink(tiny_backbone("bert"), shape)


def test_heads_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(FamilyError, match="heads of a mpnet model cannot be cut"):
        shrink(tiny_backbone("mpnet"), Shape((0,), ((0, 1),), ((0, 1),)))


def test_a_first_layer_unlike_the_others_must_stay() -> None:
    with pytest.raises(ValueError, match="layer 0 of a modernbert model must be kept"):
        shrink(tiny_backbone("modernbert"), Shape((1,), ((0,),), ((0,),)))


def test_sizes_a_model_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="heads of layer 0: 9 indices, expected 1 to 4"):
        reshape(tiny_backbone("bert"), Sizes((9,) * 4, (3,) * 4))


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"electra"}))
def test_a_narrow_model_of_the_family_runs(name: str) -> None:
    backbone = tiny_backbone(name)
    small = narrow(backbone, layers=2, hidden=16, heads=2, intermediate=20).eval()
    assert (small.layers, small.hidden, sizes_of(small).widths) == (2, 16, (20, 20))
    assert small.fresh_head
    batch = packed(tiny_rows())
    with torch.no_grad():
        torch.testing.assert_close(segment_logits(small, batch, (1,)), own_logits(small, batch))
    assert sum(p.numel() for p in small.parameters()) < 0.4 * sum(
        p.numel() for p in backbone.parameters()
    )


def test_narrow_embeddings_are_the_wide_ones_projected() -> None:
    backbone = tiny_backbone("bert")
    small = narrow(backbone, layers=1, hidden=8, heads=2, intermediate=8)
    directions = principal_directions(backbone.embedding_table, 8)
    torch.testing.assert_close(small.embedding_table, backbone.embedding_table @ directions)
    torch.testing.assert_close(
        small.body.embeddings.position_embeddings.weight,
        backbone.body.embeddings.position_embeddings.weight @ directions,
    )


def test_narrow_token_tables_cannot_be_projected() -> None:
    with pytest.raises(FamilyError, match="width 16 in a model of width 32"):
        narrow(tiny_backbone("electra"), layers=1, hidden=8, heads=2, intermediate=8)


@pytest.mark.parametrize(
    ("layers", "heads", "what"), [(9, 2, "9 layers, expected 1 to 4"), (1, 3, "multiple of 3")]
)
def test_narrow_sizes_that_cannot_be_are_refused(layers: int, heads: int, what: str) -> None:
    config = tiny_backbone("bert").config
    with pytest.raises(ValueError, match=what):
        narrow_config(config, layers=layers, hidden=16, heads=heads, intermediate=8)


def test_projection_keeps_a_table_of_low_rank_to_the_last_inner_product() -> None:
    torch.manual_seed(0)
    table = torch.randn(50, 5) @ torch.randn(5, 20)
    small = project(table, 5)
    torch.testing.assert_close(small @ small.T, table @ table.T, atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="width 20 to width 21"):
        project(table, 21)
