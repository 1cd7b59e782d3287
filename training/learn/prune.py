"""A smaller tier out of a trained one: the layers, heads and neurons that matter least go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.text import tokens as token_rows
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.surgery import Shape, shrink
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import device_of
from adaptive.training.learn.importance import choose, measure_importance
from adaptive.types import Tokens


def prune(
    full: Tier,
    tokens: Tokens,
    *,
    layers: int,
    heads: float = 1.0,
    ffn: float = 1.0,
    multiple: int = 1,
    keep_first: bool = False,
    exits: Sequence[int] | None = None,
    head_width: int | None = None,
    batches: int = 64,
    batch_size: int = 32,
    seed: int = 0,
    name: str = "mid",
    task: Task = SINGLE_LABEL,
) -> tuple[Tier, Shape]:
    """Really smaller matrices, to be trained again by `distill`.

    Importance is that of `measure_importance`, for the loss against labels drawn from the model
    itself: the loss of answers it is sure of has no slope.

    Args:
        full: a transformer. Its weights are copied; it is left in evaluation mode.
        tokens: rows, one a text, of which batches are drawn.
        layers: how many to keep.
        heads, ffn: shares of the heads and of the neurons to keep in each of these.
        multiple: numbers of neurons are rounded to it.
        keep_first: keep the first layers and not the most important ones. Later layers never saw
            what comes out of the embeddings (Sajjad et al. 2020, arXiv:2004.03844).
        exits: depths that get a fresh head; None for all. The last layer always has one.
        head_width: hidden units of the heads; None for linear ones.
        batches, batch_size: what importance is measured on.
        task: whose loss it is measured by.

    Returns:
        The smaller tier, and what was kept of the larger one.

    Raises:
        ValueError: the tier is a bag, or has fewer layers.
    """
    backbone = backbone_of(full)
    if not 0 < layers <= backbone.layers:
        raise ValueError(f"{layers} layers to keep, of {backbone.layers}")
    rng, last, place = np.random.default_rng(seed), len(full.depths) - 1, device_of(full)

    def losses(number: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
        rows = rng.choice(len(tokens), min(batch_size, len(tokens)), replace=False)
        batch = token_rows.pack(tokens, rows, place)
        state = backbone.run(full.embed(batch), 0, full.depths[last])
        logits = full.answer(state, last)[0].float()
        return task.hard_loss(logits, task.drawn(logits.detach())).mean(), batch.lengths

    full.eval()
    torch.manual_seed(seed)
    found = measure_importance(backbone, losses, batches)
    if keep_first:
        found.layers[:layers] = torch.inf
    kept = heads if backbone.family.pruning.heads else 1.0
    first = backbone.family.first_layer_differs
    shape = choose(found, layers, kept, ffn, multiple, keep_first=first)
    torch.manual_seed(seed)
    depths = tuple(range(layers + 1) if exits is None else exits)
    depths = depths if depths[-1] == layers else (*depths, layers)
    small = shrink(backbone, shape)
    return Tier(name, small, depths, full.labels, head_width=head_width).to(place), shape
