"""A bundle's tiers in the quickest runners of the machine at hand, before it is certified there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.layout import LAYOUT
from adaptive.events import Listener, counted, ignore
from adaptive.policy.worth import reclassified
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.choose_runners import figures_of, sentence
from adaptive.training.learn.runners import choose
from adaptive.types import OutcomeTable, TokenBatch, Tokens

MOST = 256  # rows that runners are chosen on
SHARE = 10  # and one row in so many at most
TOLD = "Runner of the "  # how a card's sentence about one begins


def parted(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that choose the runners, from all over the data, and the others, which are evidence.

    The steps of int8 follow the states of the former, so that what is certified depends on them.
    """
    few = min(MOST, max(1, count // SHARE))
    chosen = np.unique(np.linspace(0, count - 1, few).astype(np.int64))
    return chosen, np.setdiff1d(np.arange(count), chosen)


def served_here(
    bundle: Bundle,
    folder: Path,
    tokens: Tokens,
    batch_size: int,
    scratch: Path,
    on_event: Listener = ignore,
) -> Bundle:
    """The bundle with each tier in the runner that is quickest here; it has no certificate.

    Reliabilities stay as they were fitted. The outcomes of the search rows stay those of the former
    runners: they order what is tested, and prove nothing. Costs are to be measured anew.

    Args:
        bundle: as loaded from `folder`.
        tokens: of the rows that choose.
        batch_size: rows of a batch, as it will serve.
        scratch: an empty folder, which must last until the bundle is written.
    """
    batches = [
        token_rows.pack(tokens, rows, bundle.device)
        for rows in token_rows.batches(tokens.lengths, batch_size)
    ]
    layered = [tier for tier in bundle.tiers if tier.backbone.layers]
    found = {
        tier.name: _quickest(tier, folder, batches, batch_size, scratch)
        for tier in counted(on_event, "trying runners", layered, "tiers")
    }
    tiers = tuple(found[t.name][0] if t.name in found else t for t in bundle.tiers)
    told = [sentence_of for _, sentence_of in found.values()]
    steps = [each for each in bundle.info.get("steps") or [] if not each.startswith(TOLD)]
    costs = None if bundle.costs is None else replace(bundle.costs, measured={})
    outcomes = dict(bundle.outcomes)
    if not tiers[-1].in_float32:
        outcomes = {name: _apart(each) for name, each in outcomes.items()}
    return replace(
        bundle,
        tiers=tiers,
        costs=costs,
        outcomes=outcomes,
        certificate=None,
        info={**bundle.info, "steps": [*steps, *told]},
    )


def _quickest(
    tier: Tier, folder: Path, batches: Sequence[TokenBatch], batch_size: int, scratch: Path
) -> tuple[Tier, str]:
    """A tier in its quickest runner, and what its card says of that."""
    device = tier.backbone.embedding_table.device
    where = folder / LAYOUT.tier(tier.name)
    found = choose(where, device, scratch / tier.name, batches)
    told = sentence(tier.name, figures_of(found, [], batch_size, device))
    return found.tiers[found.runner], told


def _apart(table: OutcomeTable) -> OutcomeTable:
    """Outcomes whose reference is not the last stage as it is served, though alike so far."""
    if not table.worth.own:
        return table
    if table.classes is None:
        return replace(table, worth=replace(table.worth, own=False))
    return reclassified(table, in_float32=table.predictions[:, -1].copy())
