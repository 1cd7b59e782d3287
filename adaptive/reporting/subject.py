"""What a report is about: outcome tables and policies, whether of a bundle or of recorded models.

Figures are look-ups in these tables. Only making the table of new texts runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.page import facts_of, meaning, promises
from adaptive.cells import Labels
from adaptive.certificate.promises import Certificate
from adaptive.events import Listener, ignore
from adaptive.measure.evaluation import report, stage_name, ways
from adaptive.measure.recording import features_of, pieces, record, tabulate
from adaptive.measure.work import work_of
from adaptive.policy.lookup import Lookup, evaluate
from adaptive.policy.worth import concatenate
from adaptive.text import tokens as token_rows
from adaptive.types import ALWAYS, NEVER, Evaluation, Groups, OutcomeTable, Policy, Tokens

Status = Literal["certified", "failed", "not reached", "searched"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A policy that was found, and what is proved of it."""

    name: str
    policy: Policy
    status: Status


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that figures are made of."""

    name: str
    item: str  # what is answered, in the singular: text | request
    rows: str  # which rows are shown, in words
    tiers: tuple[str, ...]  # [m]
    places: tuple[str, ...]  # [k] the stages' names
    lookup: Lookup  # of the rows shown
    searched: Lookup | None  # of the rows that policies were searched on
    policy: Policy  # the one that serves
    listed: tuple[Listed, ...]  # found ones, safe to cheap
    alone: Mapping[str, Evaluation]  # each model by itself, the full one last
    quality: str  # what the mean score is called, where labels are known
    words: Mapping[str, Any]  # about the certificate, costs and router, see `words_of`
    answers: tuple[int, ...]  # tiers that may answer
    calibrated: bool = True  # a reliability is the probability of an answer as good as the full's
    top: NDArray[np.float32] | None = None  # [n, k] largest probability, where it was computed
    classes: tuple[str, ...] = ()  # [c]
    texts: tuple[str, ...] | None = None  # [n] to be shown where answers changed; None: none are
    figures: Mapping[str, Any] | None = None  # of `adaptive.measure.evaluation.report`

    @property
    def table(self) -> OutcomeTable:
        """Outcomes of the rows shown."""
        return self.lookup.table


def of_bundle(
    bundle: Bundle,
    policy: Policy,
    table: OutcomeTable,
    *,
    rows: str,
    work: bool = False,
    top: NDArray[np.float32] | None = None,
    texts: Sequence[str] | None = None,
) -> Subject:
    """A bundle on a table of outcomes.

    Args:
        rows: which rows these are, in words.
        work: count cost in layers x tokens rather than in the bundle's measured milliseconds.
        top: [n, k] each stage's largest probability, see `outcomes_and_top`.
        texts: [n] the rows' texts, to be shown where the policy answers otherwise than the full
            tier.
    """
    counted = work_of(bundle.tiers, bundle.router)
    costs = counted if work or bundle.costs is None else bundle.costs
    priced = costs.at(table.tokens)
    search = bundle.outcomes.get("search")
    places = tuple(stage_name(bundle, k) for k in range(len(bundle.stages)))
    alone = {
        name.removesuffix(" alone"): evaluate(way, table, priced)
        for name, way in ways(bundle, policy).items()
        if name != "policy"
    }
    measured = ", ".join(f"{name} {value}" for name, value in costs.measured.items())
    told = [str(each) for each in bundle.info.get("steps") or []]
    words = words_of(bundle.certificate, promises(bundle.targets), places) | {
        "costs": "counted: layers of the full tier x tokens"
        if costs is counted
        else f"read from the bundle's cost table, measured on {measured or 'a device not told'}",
        "router": next((each for each in told if each.startswith("Router:")), ""),
        "warnings": [str(each) for each in bundle.info.get("warnings") or []],
    }
    return Subject(
        name=bundle.name,
        item="text",
        rows=rows,
        tiers=tuple(tier.name for tier in bundle.tiers),
        places=places,
        lookup=Lookup.of(table, priced),
        searched=None if not search else Lookup.of(search, costs.at(search.tokens)),
        policy=policy,
        listed=tuple(
            Listed(entry.name, entry.policy, status_of(bundle.certificate, entry.policy))
            for entry in bundle.ladder
        ),
        alone=alone,
        quality=bundle.task.quality,
        words=words,
        answers=tuple(range(len(bundle.tiers))),
        top=top,
        classes=bundle.labels,
        texts=None if texts is None else tuple(texts),
        figures=report(bundle, policy, table),
    )


def outcomes_and_top(
    bundle: Bundle,
    tokens: Tokens,
    labels: Labels,
    batch_size: int,
    on_event: Listener = ignore,
    groups: Mapping[str, Groups] | None = None,
) -> tuple[OutcomeTable, NDArray[np.float32] | None]:
    """The outcome table of new texts, and each stage's largest probability, [n, k].

    The latter is what the simplest rule decides by, which outcome tables do not keep. None where
    answers are no classes.
    """
    tables, tops = [], []
    for rows, told in pieces(bundle.tiers, tokens, on_event):
        piece = record(bundle.tiers, token_rows.select(tokens, rows), batch_size, told)
        parts = (bundle.reliability, labels[rows], bundle.router, bundle.log_frequency)
        tables.append(tabulate(piece, *parts, bundle.task))
        if bundle.task.exclusive:
            features = features_of(piece, bundle.reliability)
            tops.append(np.stack([each[:, 0].cpu().numpy() for each in features], 1))
    table = replace(concatenate(tables), groups=dict(groups or {}))
    return table, np.concatenate(tops) if tops else None


def status_of(certificate: Certificate | None, policy: Policy) -> Status:
    """What a certificate says of a policy."""
    front = [] if certificate is None else [tested.policy for tested in certificate.front]
    if certificate is None or policy not in front:
        return "searched"
    place = front.index(policy)
    if place < certificate.certified:
        return "certified"
    return "failed" if place == certificate.certified else "not reached"


def words_of(
    certificate: Certificate | None, promised: str, places: Sequence[str]
) -> dict[str, Any]:
    """The certificate for people: `headline`, `meaning`, `promise`, `facts`, `assumptions`."""
    if certificate is None:
        return {
            "headline": "No certificate",
            "meaning": "The policy was chosen on held-out rows, with standard errors to spare. "
            "That can be expected to hold on texts like them; nothing is proved.",
            "promise": promised,
            "facts": [],
            "assumptions": [],
        }
    return {
        "headline": certificate.headline,
        "meaning": meaning(certificate),
        "promise": promised,
        "facts": [list(each) for each in facts_of(certificate, places).items()],
        "assumptions": list(certificate.assumptions),
    }


def told_thresholds(policy: Policy) -> list[float | None]:
    """Thresholds as JSON has them: None is an exit that is off; 0 lets every text pass."""
    return [None if t == NEVER else 0.0 if t == ALWAYS else float(t) for t in policy.thresholds]
