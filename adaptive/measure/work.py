"""Counting work: multiply-adds in the matrices, in layers of the full tier x tokens.

Attention's own products, norms and biases are left out, for the full tier too: at the lengths
of sentences they are a few per cent, and leaving them out makes the count linear in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptive.policy.costs import LAYER, CostTable, work_table
from adaptive.routers import Router, work_per_text
from adaptive.tiers.tier import Tier


def work_of(tiers: Sequence[Tier], router: Router | None = None) -> CostTable:
    """The cascade's work table; the last tier's mean layer is the unit."""
    full = tiers[-1]
    layers = full.backbone.layers
    return work_table(
        embed=[float(tier.embed_work()) for tier in tiers],
        segment=[float(t.segment_work(exit)) for t in tiers for exit in range(len(t.depths))],
        head=[float(t.head_work(exit)) for t in tiers for exit in range(len(t.depths))],
        router=0.0 if router is None else work_per_text(router),
        layer=sum(full.segment_work(exit) for exit in range(len(full.depths))) / layers,
    )


def routed(work: CostTable, router: Router | None) -> CostTable:
    """A table of counted work with a router's share in it; the tiers are not needed for that."""
    adds = 0.0 if router is None else work_per_text(router)
    return replace(work, router=np.full(len(work.lengths), adds / work.measured[LAYER]))
