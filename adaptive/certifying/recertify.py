"""From a bundle and new rows to a certificate, without training anything."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.header import library_versions
from adaptive.bundle.ladder import ladder_of
from adaptive.cells import Labels
from adaptive.certificate.assumptions import ROUNDED, redacted
from adaptive.certificate.certify import assuming, at_levels, certify, with_levels
from adaptive.certificate.looks import count_look
from adaptive.certificate.promises import Conditions
from adaptive.config.steps import RouterConfig, SearchConfig
from adaptive.errors import BundleError, TargetError
from adaptive.events import Listener, doing, ignore
from adaptive.measure.recording import outcomes
from adaptive.measure.timing import costs_here
from adaptive.policy.costs import CostTable
from adaptive.policy.fronts import arranged, front
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import Found, search
from adaptive.policy.targets import seeks_quality, several
from adaptive.policy.worth import reclassified, with_own_reference
from adaptive.text import tokens as token_rows
from adaptive.text.row_hashes import hash_texts, unseen
from adaptive.tiers.store import is_rounded
from adaptive.types import Groups, OutcomeTable, Target, Targets, Tokens, confidence_fault


def recertify(
    bundle: Bundle,
    tokens: Tokens,
    labels: Labels,
    target: Targets,
    *,
    groups: Mapping[str, Groups] | None = None,
    levels: Sequence[float] = (),
    seed: int = 0,
    looks: int = 1,
    count_repeats: bool = False,
    batch_size: int = 32,
    pairs: bool | None = None,
    on_event: Listener = ignore,
) -> Bundle:
    """The bundle with a certificate for new targets, tested on these rows where it lies now.

    The front is the bundle's ladder, ordered anew for the targets on the bundle's own search
    rows; by the mean over all of them where they know no such groups. Milliseconds that were
    measured on another device or processor, with other threads or in another dtype are measured
    anew, in batches of `batch_size`; policies are then searched anew too, on the same search rows,
    since other policies are the cheap ones there. Rows that the build trained, fitted or searched
    on are left out, where the bundle knows them (`Bundle.seen`); the certificate's conditions tell
    how many. Rows of the same tokens count once, the first of them, unless they are separate
    requests (`count_repeats`): what is merely copied is no further evidence. The full tier is
    recorded in float32 in torch besides, where it is served otherwise here: promises against it
    are against that.

    Args:
        bundle: on the device and in the dtype to certify it for.
        tokens: one row a text; rows that served for nothing else. Of a bundle that does not know
            the rows it was built on, that is checked against the search rows alone.
        labels: [n, ...] as `bundle.task.cells` makes them: of one class each, positions in
            `bundle.labels`, -1 where unknown, which only `agreement` allows.
        target: one, or several that must hold together.
        groups: of the rows, by column, for targets that name one; classes (`label`) come from
            the labels. Every group that the bundle knows is promised for, and any new one.
        levels: further ones of the first target, each a promise of its own; see
            `adaptive.certificate.certify.with_levels` for what holds together.
        looks: designs that are planned to be tested on these rows; each is tested at delta over
            their number. Every look is counted, see `adaptive.certificate.looks`.
        count_repeats: whether rows of the same tokens are separate requests, each drawn from the
            traffic that the promise is about, and count each.
        batch_size: rows at once, where costs are measured and rows recorded.
        pairs: whether the rows are of pairs of texts. None: not told, so that both are answered as
            covered.
        seed: of the rows' order, by `row_seed`; to be kept, since the best of several proves
            nothing.

    Raises:
        BundleError: the bundle has no search rows to order its policies on.
        TargetError: a target needs labels or groups that are not given, there are no rows, the
            build has used all of them, or, where it did not keep which, most of them are those that
            the policies were searched on; or the confidence is more than
            `adaptive.types.MOST_SURE`.
        ValueError: the targets are promised at different confidences.
    """
    rows = search_rows(bundle)
    if not len(tokens):
        raise TargetError("there are no rows to certify on")
    counted, used = counted_rows(bundle, tokens, count_repeats=count_repeats)
    tokens = token_rows.select(tokens, counted)
    labels = np.asarray(labels)[counted]
    groups = {name: each.take(counted) for name, each in (groups or {}).items()}
    targets = several(target)
    if fault := confidence_fault(targets[0].confidence):
        raise TargetError(fault)
    with doing(on_event, "costs, and the policies to test", 1, 3):
        costs = costs_here(bundle, batch_size, on_event)
        lookup = Lookup.of(rows, costs.at(rows.tokens))
        promises = [targets, *at_levels(targets, levels)]
        fronts = ordered(bundle, lookup, promises, costs)
    with doing(on_event, f"answering {len(tokens):,} rows at every stage", 2, 3):
        table = outcomes(bundle, tokens, labels, batch_size, on_event)
    tables = bundle.outcomes.values()
    told = {
        name: _joined(each, [t.groups[name] for t in tables if name in t.groups])
        for name, each in groups.items()
    }
    table = _with_classes(replace(table, groups=told), bundle.labels)
    if used is None:
        refuse_known(table, rows)
    conditions = conditions_of(
        bundle.device.type,
        bundle.dtype,
        bundle.max_length,
        tokens,
        labels,
        costs,
        repeats=count_repeats,
        known=used,
        pairs=pairs,
    )
    with doing(on_event, f"testing up to {sum(map(len, fronts)):,} policies", 3, 3):
        first, *others = [
            certify(
                [f.policy for f in line],
                table,
                costs,
                each,
                row_seed(seed),
                conditions,
                accuracy=full_accuracy(rows),
                expected=expected_stop(line),
                looks=looks,
            )
            for each, line in zip(promises, fronts, strict=True)
        ]
    certificate = with_levels(first, others)
    if is_rounded(bundle.tiers[-1]):
        certificate = assuming(certificate, ROUNDED)
    if bundle.task.meaning is not None:
        certificate = assuming(certificate, bundle.task.meaning)
    for each in redacted(bundle.redact):
        certificate = assuming(certificate, each)
    certificate = count_look(certificate, hash_texts(tokens, bundle.tokenizer), table)
    named = {each.group for each in targets}
    table = replace(table, groups={n: each for n, each in table.groups.items() if n in named})
    return replace(
        bundle,
        targets=targets,
        costs=costs if bundle.costs is not None else None,
        policy=certificate.policy,
        ladder=ladder_of(first.front, {c.target.level: c.front for c in others}),
        outcomes={**bundle.outcomes, "certify": table},
        certificate=certificate,
    )


def search_rows(bundle: Bundle) -> OutcomeTable:
    """The bundle's search rows, with classes as groups where they are labelled.

    Raises:
        BundleError: it has none.
    """
    if "search" not in bundle.outcomes:
        raise BundleError(
            "outcomes/search.safetensors: the file is missing; without it the bundle's policies "
            "cannot be ordered before they are tested"
        )
    return _with_classes(_as_served(bundle.outcomes["search"], bundle), bundle.labels)


def ordered(
    bundle: Bundle, lookup: Lookup, promises: Sequence[Sequence[Target]], costs: CostTable
) -> list[list[Found]]:
    """The front of each promise, ordered on the bundle's search rows.

    Args:
        lookup: of these rows at the costs.
        costs: where they are not the bundle's own, policies are searched anew.

    Raises:
        TargetError: the rows lack labels that a target needs.
    """
    known = [_known(each, lookup.table) for each in promises]
    family = [bundle.policy, *(entry.policy for entry in bundle.ladder)]
    routed = bundle.router is not None
    try:
        if costs is bundle.costs or bundle.costs is None:
            fronts = [arranged(lookup, each, family) for each in known]
        else:
            fronts = [searched_front(lookup, each, routed=routed) for each in known]
    except ValueError as error:
        raise TargetError(f"on the bundle's search rows, {error}") from None
    return fronts


def full_accuracy(table: OutcomeTable) -> float:
    """The full tier's accuracy on search rows, 1 where they have no labels."""
    if table.sampled is not None:
        return table.sampled.accuracy
    if not len(table) or not table.worth.known:
        return 1.0
    return float(table.worth.reference.mean(dtype=np.float64))


def expected_stop(line: Sequence[Found]) -> int:
    """The last place of a front that keeps the targets on the search rows; 0 if none does."""
    return max((place for place, found in enumerate(line) if found.excess <= 0.0), default=0)


def searched_front(lookup: Lookup, targets: Sequence[Target], *, routed: bool) -> list[Found]:
    """Policies searched anew, safe to cheap.

    Args:
        routed: whether there is a router; it is used where it saves as much as a build asks for.
    """
    config, least = SearchConfig(), RouterConfig().min_gain
    found = search(lookup, targets, margin=config.margin, sweeps=config.sweeps, routed=False)
    if routed:
        other = search(lookup, targets, margin=config.margin, sweeps=config.sweeps, routed=True)
        aim = "loss" if seeks_quality(targets) else "cost"
        if getattr(other[0], aim) < (1 - least) * getattr(found[0], aim):
            found = other
    return front(lookup, targets, found, sweeps=config.sweeps)


def counted_rows(
    bundle: Bundle, tokens: Tokens, *, count_repeats: bool
) -> tuple[NDArray[np.int64], int | None]:
    """Rows that count as evidence, and how many the build had used; None if it did not keep which.

    Args:
        count_repeats: whether rows of the same tokens count each.

    Raises:
        TargetError: the build has used all of them.
    """
    fresh, used = _fresh(bundle, tokens)
    rows = fresh if count_repeats else fresh[distinct(token_rows.select(tokens, fresh))]
    return rows, used


def _fresh(bundle: Bundle, tokens: Tokens) -> tuple[NDArray[np.int64], int | None]:
    """Rows that the build has not used, and how many it has; None where it did not keep which."""
    if bundle.seen is None:
        return np.arange(len(tokens)), None
    fresh = unseen(tokens, bundle.seen)
    if not len(fresh):
        raise TargetError(
            f"all {len(tokens)} rows were used to train, fit or search this bundle; a certificate "
            "needs rows that served for nothing else"
        )
    return fresh, len(tokens) - len(fresh)


def distinct(tokens: Tokens) -> NDArray[np.int64]:
    """The first text of each row of tokens, ascending."""
    found: dict[bytes, int] = {}
    for row, (start, stop) in enumerate(itertools.pairwise(tokens.offsets.tolist())):
        types = b"" if tokens.types is None else tokens.types[start:stop].tobytes()
        found.setdefault(tokens.ids[start:stop].tobytes() + types, row)
    return np.array(list(found.values()), dtype=np.int64)


def without_rows(bundle: Bundle) -> tuple[str, ...]:
    """Classes and groups that the bundle knows and its certification rows lack, in words."""
    table = bundle.outcomes["certify"]
    columns = dict(_with_classes(table, bundle.labels).groups)
    return tuple(
        f"{column} = {name}"
        for column, groups in columns.items()
        for number, name in enumerate(groups.names)
        if not (groups.index == number).any()
    )


def _known(targets: Sequence[Target], table: OutcomeTable) -> list[Target]:
    """The targets as far as the table knows their groups: by the mean where it does not."""
    return [each if each.group in table.groups else replace(each, group=None) for each in targets]


def _as_served(table: OutcomeTable, bundle: Bundle) -> OutcomeTable:
    """A table as the full tier is served now; in float32 in torch its answers are the reference."""
    if table.worth.own or not bundle.tiers[-1].in_float32:
        return table
    if table.classes is None:
        return replace(table, worth=with_own_reference(table.worth))
    predictions = np.column_stack([table.predictions[:, :-1], table.reference])
    return reclassified(table, predictions=predictions, in_float32=None)


def _with_classes(table: OutcomeTable, names: tuple[str, ...]) -> OutcomeTable:
    """The table with its labels as groups, where they are classes and known."""
    if table.classes is None or not table.worth.known:
        return table
    return replace(table, groups={**table.groups, "label": Groups(names, table.labels)})


def _joined(new: Groups, known: Sequence[Groups]) -> Groups:
    """New rows' groups under the known names, and those that are not known behind them."""
    names = tuple(dict.fromkeys(name for each in (*known, new) for name in each.names))
    place = np.array([names.index(name) for name in new.names], dtype=np.int32)
    return Groups(names, place[new.index])


def refuse_known(table: OutcomeTable, searched: OutcomeTable) -> None:
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
    answers: tuple[NDArray[Any], NDArray[Any]] = (
        (table.worth.alike, np.nan_to_num(table.worth.score, nan=-1.0).round(3))
        if table.classes is None
        else (table.predictions, table.labels[:, None])
    )
    columns = (rounded, answers[0], table.tokens[:, None], answers[1])
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
    labels: Labels,
    costs: CostTable,
    *,
    repeats: bool,
    pairs: bool | None,
    known: int | None = None,
) -> Conditions:
    """Under which conditions rows are certified on, here and now.

    Args:
        repeats: whether a text counts as often as it stands in the rows, or once.
        pairs: whether the rows are of pairs of texts; None where it is not known.
        known: rows left out because the build had used them.
    """
    digest = hashlib.sha256()
    for values in (tokens.ids, tokens.offsets, labels):
        digest.update(np.ascontiguousarray(values).tobytes())
    measured = ", ".join(f"{name} {value}" for name, value in costs.measured.items())
    cut = float(tokens.truncated.mean()) if len(tokens.truncated) else None
    rows = digest.hexdigest()
    return Conditions(
        device,
        dtype,
        max_length,
        rows,
        library_versions(),
        measured,
        cut,
        repeats=repeats,
        known=known,
        processor=str(costs.measured.get("device" if device == "cuda" else "processor", "")),
        threads=costs.measured.get("threads"),
        batch_size=costs.measured.get("batch_size"),
        pairs=pairs,
    )
