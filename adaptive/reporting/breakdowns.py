"""A report's breakdowns: by class, length and group, by reliability, and what changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from adaptive.policy.lookup import predicted
from adaptive.policy.worth import as_good
from adaptive.reporting.subject import Subject
from adaptive.types import Evaluation

BINS = 8  # of a reliability diagram, of equally many texts
FEWEST = 20  # texts of a bin
LENGTHS = 5  # bins of length
SHOWN = 200  # texts whose answer changed, at most
CUT = 400  # characters of a text that are shown

Rows = NDArray[np.bool_]


def _part(subject: Subject, chosen: Evaluation, name: str, rows: Rows) -> dict[str, Any]:
    """How some of the texts were answered, beside the full tier."""
    table, known = subject.table, subject.table.worth.known
    *_, full = subject.alone.values()
    answered = rows & chosen.answered
    tiers = np.array([stage.tier for stage in table.stages])[chosen.stage[rows]]
    shares = np.bincount(tiers, minlength=len(subject.tiers)) / max(1, len(tiers))
    return {
        "name": name,
        "texts": int(rows.sum()),
        "quality": _mean(chosen.score, answered) if known else None,
        "full": _mean(table.worth.reference, rows) if known else None,
        "agreement": _mean(chosen.alike, answered),
        "cost": _mean(chosen.cost, rows),
        "full_cost": _mean(full.cost, rows),
        "shares": [float(shares[tier]) for tier in subject.answers],
    }


def by_length(subject: Subject, chosen: Evaluation) -> list[dict[str, Any]]:
    """Parts of about equally many texts, short to long; none where lengths are not known."""
    tokens = subject.table.tokens
    if not len(tokens) or not tokens.any():
        return []
    edges = np.unique(np.quantile(tokens, np.linspace(0, 1, LENGTHS + 1)[1:-1])).astype(int)
    group = np.searchsorted(edges, tokens)
    found = []
    for number in np.unique(group).tolist():
        own = group == number
        low, high = int(tokens[own].min()), int(tokens[own].max())
        name = f"{low}" if low == high else f"{low} to {high}"
        found.append(_part(subject, chosen, name, own))
    return found


def by_class(subject: Subject, chosen: Evaluation) -> list[dict[str, Any]]:
    """A part for each class by its true label, those that lose most first; none without labels."""
    table = subject.table
    if table.classes is None or not table.worth.known:
        return []
    found = [
        _part(subject, chosen, name, table.labels == number)
        for number, name in enumerate(subject.classes)
        if (table.labels == number).any()
    ]
    return sorted(found, key=lambda each: (each["quality"] or 0.0) - each["full"])


def by_group(subject: Subject, chosen: Evaluation) -> list[dict[str, Any]]:
    """A part for each group of each column."""
    return [
        _part(subject, chosen, f"{column} = {name}", groups.index == number)
        for column, groups in subject.table.groups.items()
        for number, name in enumerate(groups.names)
        if (groups.index == number).any()
    ]


def reliabilities(subject: Subject) -> dict[str, Any]:
    """A diagram for each exit that the served policy asks how sure it is: all but its last.

    Returns:
        `calibrated`: whether a reliability is the share expected to be as good as the full tier's
        answers; `stages`: each with a `name`, its `bins` and the mean `gap` of said and was.
    """
    table, good = subject.table, as_good(subject.table.worth)
    *asked, _ = [k for k in range(len(table.stages)) if subject.policy.on(k)]
    stages = [
        {"name": subject.places[k], **_bins(table.reliability[:, k], good[:, k])} for k in asked
    ]
    return {"calibrated": subject.calibrated, "stages": stages}


def score_diagram(subject: Subject, chosen: Evaluation) -> dict[str, Any] | None:
    """Whether the score of the answers that are given is the share of them that is right.

    None without labels, or where largest probabilities were not computed.
    """
    table = subject.table
    if subject.top is None or not table.worth.known:
        return None
    score = subject.top[np.arange(len(table)), chosen.stage]
    given = chosen.answered
    return _bins(score[given], chosen.score[given] == 1.0)


def _bins(said: NDArray[np.floating], was: NDArray[np.bool_]) -> dict[str, Any]:
    """Bins of equally many texts: mean of what was said, share that was, its 95 % interval."""
    parts = np.array_split(np.argsort(said, kind="stable"), max(1, min(BINS, len(said) // FEWEST)))
    bins = []
    for rows in parts:
        if not len(rows):
            continue
        hits, size = int(was[rows].sum()), len(rows)
        low = beta.ppf(0.025, hits, size - hits + 1) if hits else 0.0
        high = beta.ppf(0.975, hits + 1, size - hits) if hits < size else 1.0
        said_here = float(said[rows].mean(dtype=np.float64))
        bins.append(
            {"said": said_here, "was": hits / size, "low": low, "high": high, "texts": size}
        )
    whole = sum(each["texts"] for each in bins)
    gap = sum(abs(each["said"] - each["was"]) * each["texts"] for each in bins) / max(1, whole)
    return {"bins": bins, "gap": gap}


def changed(subject: Subject, chosen: Evaluation) -> dict[str, Any]:
    """Texts that are answered otherwise than by the full tier, as it is served for reference.

    Returns:
        `rows`: by tier how many were `won`, `lost`, `neither`, or `differ` where no labels tell;
        `texts`: some of them with their answers, None unless the subject brings texts.
    """
    table = subject.table
    differs = (chosen.alike < 1.0) & chosen.answered
    score, held = chosen.score, table.worth.reference.astype(np.float64)
    tiers = np.array([stage.tier for stage in table.stages])[chosen.stage]
    kinds = {"differ": differs}
    if table.worth.known:
        kinds = {
            "won": differs & (score > held),
            "lost": differs & (score < held),
            "neither": differs & (score == held),
        }
    rows = [
        {
            "name": subject.tiers[t],
            **{k: int((each & (tiers == t)).sum()) for k, each in kinds.items()},
        }
        for t in subject.answers
    ]
    found: list[dict[str, Any]] | None = None
    if subject.texts is not None and table.classes is not None:
        found = _texts(subject, chosen, kinds)
    return {"kinds": list(kinds), "rows": rows, "total": int(differs.sum()), "texts": found}


def _texts(subject: Subject, chosen: Evaluation, kinds: dict[str, Rows]) -> list[dict[str, Any]]:
    table, given = subject.table, predicted(chosen, subject.table)
    assert subject.texts is not None
    found = []
    for kind in ("lost", "won", "neither", "differ"):
        for row in np.flatnonzero(kinds.get(kind, np.zeros(0)))[:SHOWN].tolist():
            stage = int(chosen.stage[row])
            text = subject.texts[row]
            found.append(
                {
                    "row": row,
                    "kind": kind,
                    "text": text if len(text) <= CUT else text[:CUT] + " …",
                    "label": subject.classes[table.labels[row]] if table.labels[row] >= 0 else None,
                    "full": subject.classes[table.reference[row]],
                    "policy": subject.classes[given[row]],
                    "stage": subject.places[stage],
                    "reliability": float(table.reliability[row, stage]),
                }
            )
    return found[:SHOWN]


def _mean(values: NDArray[np.floating], rows: Rows) -> float | None:
    return float(values[rows].mean(dtype=np.float64)) if rows.any() else None
