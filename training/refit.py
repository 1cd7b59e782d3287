"""Fit a served bundle's reliability and router on labels that users sent, and certify it anew.

The backbones and heads stay as they are, so nothing that they learnt is lost. Which rows serve for
what is decided by their hashes, so that a row is always in the same part, however often a bundle
is fitted again while feedback grows: what once certified never fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.ladder import ladder_of
from adaptive.cells import Labels, known
from adaptive.certificate.certify import at_levels
from adaptive.certifying.recertify import counted_rows, recertify, searched_front
from adaptive.errors import DataError
from adaptive.events import Listener, ignore
from adaptive.measure.recording import outcomes, routing_features
from adaptive.measure.timing import costs_here
from adaptive.policy.lookup import Lookup
from adaptive.policy.targets import may_abstain
from adaptive.policy.worth import worse_of
from adaptive.routers import Router
from adaptive.routers.fit import fit_router
from adaptive.text import tokens as token_rows
from adaptive.text.row_hashes import hash_rows, hashes_of
from adaptive.training.learn.recorded import recorded
from adaptive.training.record_outcomes import calibrate
from adaptive.types import Target, Tokens

PARTS = 4  # of which two certify, one fits and one is searched on
LEAST = 100  # rows of each part: fewer fit a dozen coefficients for each exit at random


class Parts(NamedTuple):
    """Which rows serve for what."""

    fit: NDArray[np.int64]
    search: NDArray[np.int64]
    certify: NDArray[np.int64]


def divide(tokens: Tokens) -> Parts:
    """Rows dealt by their hashes: a quarter to fit, a quarter to search on, a half to certify."""
    number = hash_rows(tokens) % np.uint64(PARTS)
    fit, search, certify = (np.flatnonzero(each) for each in (number == 0, number == 1, number > 1))
    return Parts(fit, search, certify)


def refit(
    bundle: Bundle,
    tokens: Tokens,
    labels: Labels,
    *,
    levels: Sequence[float] = (),
    seed: int = 0,
    looks: int = 1,
    batch_size: int = 32,
    on_event: Listener = ignore,
) -> Bundle:
    """The bundle with reliability, router, front and certificate of these rows.

    Temperatures and reliabilities are fitted on a quarter of the rows (`calibrate`), the router,
    where there is one, too; the front is searched on another quarter, and certified on the half
    that served for nothing else (`adaptive.certifying.recertify.recertify`), where every look is
    counted. Rows that the build trained, fitted or searched on, and copies, are left out.

    Args:
        bundle: on the device and in the dtype that it is to be certified for.
        tokens: one row a text.
        labels: [n, ...] as `bundle.task.cells` makes them; rows without one are left out.
        levels: further levels of the first target.
        looks: designs that are planned to be tested on these rows.

    Raises:
        DataError: too few rows.
        TargetError: as `recertify` does.
    """
    told = np.flatnonzero(known(labels))
    tokens, labels = token_rows.select(tokens, told), labels[told]
    fresh = counted_rows(bundle, tokens, count_repeats=False)[0] if len(tokens) else told
    tokens, labels = token_rows.select(tokens, fresh), labels[fresh]
    parts = divide(tokens)
    if min(map(len, parts)) < LEAST:
        found = ", ".join(f"{len(rows)} to {name}" for name, rows in parts._asdict().items())
        raise DataError(
            f"{len(tokens)} different labelled rows that the build has not used: {found}; "
            f"expected {LEAST} of each at least, about {LEAST * PARTS} rows in all. Collect more"
        )
    own = {name: token_rows.select(tokens, rows) for name, rows in parts._asdict().items()}
    fitted = _fitted(bundle, own["fit"], labels[parts.fit], seed, batch_size, on_event)
    table = outcomes(fitted, own["search"], labels[parts.search], batch_size, on_event)
    fitted = replace(fitted, outcomes={"search": table}, certificate=None)
    costs = costs_here(fitted, batch_size, on_event)
    lookup = Lookup.of(table, costs.at(table.tokens))
    promises: list[Sequence[Target]] = [bundle.targets, *at_levels(bundle.targets, levels)]
    first, *others = [
        searched_front(lookup, each, routed=fitted.router is not None) for each in promises
    ]
    used = hashes_of([own["fit"], own["search"]])
    seen = None if bundle.seen is None else np.union1d(bundle.seen, used)
    steps = [*bundle.info.get("steps", ()), f"refitted on {len(tokens)} labelled rows of traffic"]
    fitted = replace(
        fitted,
        policy=first[0].policy,
        ladder=ladder_of(first, dict(zip(levels, others, strict=True))),
        seen=seen,
        info={**bundle.info, "steps": steps},
    )
    return recertify(
        fitted,
        own["certify"],
        labels[parts.certify],
        bundle.targets,
        levels=levels,
        seed=seed,
        looks=looks,
        batch_size=batch_size,
        on_event=on_event,
    )


def _fitted(
    bundle: Bundle, tokens: Tokens, labels: Labels, seed: int, batch_size: int, on_event: Listener
) -> Bundle:
    """The bundle with reliability, and router if it has one, fitted on these rows."""
    records = list(recorded(bundle.tiers, tokens, batch_size, on_event))
    right = may_abstain(bundle.targets)
    reliability, _ = calibrate(records, labels, right=right, task=bundle.task)
    reliability.to(bundle.device)
    router: Router | None = None
    if bundle.router is not None:
        frequency = bundle.log_frequency
        features = [routing_features(each, reliability, frequency, bundle.task) for each in records]
        told = replace(bundle, reliability=reliability, router=None)
        worse = worse_of(outcomes(told, tokens, labels, batch_size, on_event))
        router = fit_router(bundle.router.kind, torch.cat(features).cpu().numpy(), worse, seed)
        router.to(bundle.device)
    return replace(bundle, reliability=reliability, router=router)
