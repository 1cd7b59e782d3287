"""Step `mid`: cut the full tier to really smaller matrices, then distil it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptive import tokens as token_rows
from adaptive.config.steps import MidConfig
from adaptive.errors import BuildError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.store import save_tier
from adaptive.tiers.surgery import Shape, shrink
from adaptive.tiers.tier import Tier
from adaptive.training.distill import train_student
from adaptive.training.epochs import MID, epochs_for, held_out
from adaptive.training.evaluate_tier import student_figures
from adaptive.training.importance import choose, measure_importance
from adaptive.training.loop import Options
from adaptive.training.parts import backbone_of, load_built
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.training.teach import Teacher, load_teacher

# Of a training whose length is counted in steps, and of one whose epochs are given.
RATE, EPOCHS_RATE = 5e-4, 2e-4


def _work(context: Context, folder: Path) -> Figures:
    config = context.recipe.mid
    assert config is not None
    full, teacher = load_built(context, "full"), load_teacher(context)
    shape = _shape(context, full, teacher, config)
    torch.manual_seed(context.recipe.seed)
    depths = config.exits or tuple(range(config.layers + 1))
    if depths[-1] != config.layers:
        depths = (*depths, config.layers)
    tier = Tier(
        "mid",
        shrink(backbone_of(full), shape),
        depths,
        full.labels,
        head_width=context.recipe.exits.head_width,
    ).to(context.device)
    options = Options(
        name="mid",
        epochs=epochs_for(config.epochs, len(teacher.tokens), config.batch_size, MID),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or (RATE if config.epochs is None else EPOCHS_RATE),
        weight_decay=0.01,
        bfloat16=context.recipe.model.dtype == "bfloat16",
        seed=context.recipe.seed,
    )
    done = train_student(
        context,
        tier,
        teacher,
        options,
        folder,
        weight=config.distill_weight,
        temperature=config.temperature,
        held_out=held_out(context, tier, config.epochs),
        # behind its i-th kept layer the student stands for the teacher just before the next
        imitate=dict(enumerate([0, *shape.layers[1:], full.backbone.layers])),
        hidden_weight=config.hidden_weight,
    )
    save_tier(tier, folder / "tier")
    share = _layer_work(tier) / _layer_work(full)
    return {
        "optimiser_steps": done,
        **student_figures(context, tier),
        "layers": list(shape.layers),
        "work_share": share,
    }


def check(config: MidConfig, full: Backbone) -> None:
    """Raise BuildError where more layers are to be kept than there are."""
    if config.layers > full.layers:
        raise BuildError(
            f"mid.layers is {config.layers}, but the full tier has {full.layers} layers"
        )


def _shape(context: Context, full: Tier, teacher: Teacher, config: MidConfig) -> Shape:
    """What to keep, by the loss between the full tier's answers and the labels."""
    tokens = teacher.tokens
    rng = np.random.default_rng(context.recipe.seed)
    last = len(full.depths) - 1

    def losses(number: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
        rows = rng.choice(len(tokens), min(config.batch_size, len(tokens)), replace=False)
        batch = token_rows.pack(tokens, rows, context.device)
        state = full.embed(batch)
        state = full.backbone.run(state, 0, full.depths[last])
        # Labels drawn from the model itself: the loss of answers it is sure of has no slope.
        logits = full.answer(state, last)[0].float()
        drawn = torch.multinomial(logits.detach().softmax(1), 1).squeeze(1)
        return functional.cross_entropy(logits, drawn), batch.lengths

    full.eval()
    torch.manual_seed(context.recipe.seed)
    backbone = backbone_of(full)
    found = measure_importance(backbone, losses, config.importance_batches)
    heads = config.heads if backbone.family.pruning.heads else 1.0
    if config.keep == "first" or (config.keep is None and config.epochs is None):
        # Later layers never saw what comes out of the embeddings; see Sajjad et al. 2020
        # (arXiv:2004.03844), who found the first layers the best ones to keep.
        found.layers[: config.layers] = torch.inf
    first = backbone.family.first_layer_differs
    return choose(found, config.layers, heads, config.ffn, config.multiple, keep_first=first)


def _layer_work(tier: Tier) -> int:
    return sum(tier.segment_work(exit) for exit in range(len(tier.depths)))


STEP = Step("mid", ("data", "full", "teacher"), section("mid", "model"), _work)
