"""The certificate of a build on a pool: labels are asked for until the line of policies ends.

The finished bundle is certified in place, on the pool's certification rows, as `adaptive certify
--unlabelled` does with other rows (`adaptive.certificate.asking` proves why few labels are enough).
"""

from __future__ import annotations

import logging

from adaptive.bundle.card import render_card
from adaptive.bundle.store import load_bundle, recertify_bundle
from adaptive.certifying.labelling import Labelling
from adaptive.certifying.unlabelled import plan
from adaptive.events import doing
from adaptive.training.certify_policy import certified_table
from adaptive.training.choose import costs_of, load_router
from adaptive.training.parts import DTYPES
from adaptive.training.prepare import load_splits
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context

TURN = 50  # texts asked for at once
logger = logging.getLogger(__name__)


def certify(context: Context) -> None:
    """Ask for the labels that decide, and put the certificate into the bundle; once is enough."""
    recipe, ask = context.recipe, context.ask
    place, dtype = context.device, DTYPES[recipe.cost.dtype]
    bundle = load_bundle(recipe.output, device=place, dtype=dtype)
    if recipe.certificate is None or bundle.certificate is not None:
        return
    assert ask is not None
    data, splits = load_splits(recipe, context.data)
    texts = data.take(splits.certify).items
    tokens, _ = load_rows(context.folder("data") / "certify.safetensors")
    made = plan(
        bundle,
        tokens,
        recipe.targets,
        levels=recipe.levels,
        seed=recipe.seed,
        looks=recipe.certificate.looks,
        count_repeats=True,  # the rows are dealt as they come
        batch_size=recipe.cost.batch_size,
        pairs=data.pairs is not None,
        recorded=(costs_of(context, load_router(context)), certified_table(context)),
    )
    turns = Labelling.of(made, texts, TURN)
    with doing(context.on_event, "certified", 1, 1) as found:
        while turns.texts:
            turns.give(ask(turns.texts))
        bundle = turns.bundle()
        assert bundle.certificate is not None
        recertify_bundle(bundle, recipe.output, card=render_card(bundle))
        labels = int((turns.labels >= 0).sum())
        found |= {"headline": bundle.certificate.headline, "labels": labels, "n": len(made)}
    logger.info("certified with %d labels of %d texts", labels, len(made))
