"""From a bundle and new rows to a certificate, without training anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.bundle.header import library_versions
from adaptive.certificate import Conditions, Tested, certify
from adaptive.costs import CostTable
from adaptive.errors import BundleError, TargetError
from adaptive.policy import Lookup
from adaptive.recording import outcomes
from adaptive.search import Found, order
from adaptive.types import OutcomeTable, Target, Tokens
from adaptive.work import work_of


def recertify(
    bundle: Bundle,
    tokens: Tokens,
    labels: NDArray[np.int32],
    target: Target,
    *,
    seed: int = 0,
    batch_size: int = 32,
    quiet: bool = True,
) -> Bundle:
    """The bundle with a certificate for a target, tested on these rows where it lies now.

    The front is the bundle's ladder, ordered anew for the target on the bundle's own search
    rows. Costs stay those of the bundle's cost table: on another device the promise is as good,
    but another policy may be the cheapest there.

    Args:
        bundle: on the device and in the dtype to certify it for.
        tokens: one row a text; rows that served for nothing else, which can
            be checked only against the search rows.
        labels: [n] positions in `bundle.labels`; -1 where unknown, which only `agreement` allows.
        seed: of the rows' order, by `row_seed`; to be kept, since the best of several proves
            nothing.

    Raises:
        BundleError: the bundle has no search rows to order its policies on.
        TargetError: the target needs labels, there are no rows, or most of them are the very
            rows that the policies were searched on.
    """
    if "search" not in bundle.outcomes:
        raise BundleError(
            "outcomes/search.safetensors: the file is missing; without it the bundle's policies "
            "cannot be ordered before they are tested"
        )
    if not len(tokens):
        raise TargetError("there are no rows to certify on")
    costs = bundle.costs or work_of(bundle.tiers, bundle.router)
    rows = bundle.outcomes["search"]
    try:
        front = order(
            Lookup.of(rows, costs.at(rows.tokens)),
            target,
            [bundle.policy, *(entry.policy for entry in bundle.ladder)],
        )
    except ValueError as error:
        raise TargetError(f"on the bundle's search rows, {error}") from None
    table = outcomes(bundle, tokens, labels, batch_size, quiet)
    _refuse_known(table, rows)
    conditions = conditions_of(
        bundle.device.type, bundle.dtype, bundle.max_length, tokens, labels, costs
    )
    policies = [found.policy for found in front]
    certificate = certify(policies, table, costs, target, row_seed(seed), conditions)
    return replace(
        bundle,
        target=target,
        policy=certificate.policy,
        ladder=ladder_of(certificate.front),
        outcomes={**bundle.outcomes, "certify": table},
        certificate=certificate,
    )


def _refuse_known(table: OutcomeTable, searched: OutcomeTable) -> None:
    """Refuse rows most of which were searched on: the same outcomes, to three decimals."""
    seen = set(_marks(searched))
    known = sum(mark in seen for mark in _marks(table))
    if 2 * known > len(table):
        raise TargetError(
            f"{known} of {len(table)} rows are like those that the policies were searched on; a "
            "certificate needs rows that served for nothing else"
        )


def _marks(table: OutcomeTable) -> list[bytes]:
    rounded = table.reliability.astype(np.float64).round(3)
    columns = (rounded, table.predictions, table.tokens[:, None], table.labels[:, None])
    return [row.tobytes() for row in np.concatenate(columns, axis=1)]


def row_seed(seed: int) -> int:
    """A seed for the order of rows that shares no stream with what the seed drew elsewhere.

    Splits and synthetic rows may come from numpy's generator of the seed itself; an order from
    the same stream would not be independent of them.
    """
    return int.from_bytes(hashlib.sha256(f"certificate {seed}".encode()).digest()[:4], "big")


def conditions_of(
    device: str,
    dtype: str,
    max_length: int,
    tokens: Tokens,
    labels: NDArray[np.int32],
    costs: CostTable,
) -> Conditions:
    """Under which conditions rows are certified on, here and now."""
    digest = hashlib.sha256()
    for values in (tokens.ids, tokens.offsets, labels):
        digest.update(np.ascontiguousarray(values).tobytes())
    measured = ", ".join(f"{name} {value}" for name, value in costs.measured.items())
    return Conditions(device, dtype, max_length, digest.hexdigest(), library_versions(), measured)


def ladder_of(front: Sequence[Tested | Found]) -> tuple[LadderEntry, ...]:
    """A front as a bundle's ladder, each policy with what the rows it was last seen on say."""
    ladder = []
    for index, each in enumerate(front):
        figures = {"cost": each.cost, "excess": each.excess}
        if isinstance(each, Tested):
            figures["p_value"] = each.p_value
        ladder.append(LadderEntry(f"policy-{index}", each.policy, figures))
    return tuple(ladder)
