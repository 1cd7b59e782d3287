"""The ledger of looks: how many designs were tested on a set of rows, and what that leaves proved.

A certificate proves its promise at 1 - delta if its design (weights, policies, front, promise) was
fixed before the rows were looked at. To test several designs on the same rows and serve the best is
to be wrong if any one of them is, so k looks prove 1 - k delta together (union bound). With looks
planned beforehand each is tested at delta / N, and the first N prove 1 - delta. The bound takes
each design as fixed before its look, or changed only because the one before did not pass; more than
a verdict that flows from one look into the next design is paid for by no count.

The ledger is a file of JSON lines for each user of a machine, since rows outlive bundles and work
folders. It holds hashes, dates and promises, and no text. It counts what this machine has seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from adaptive.certificate.assumptions import looked_at
from adaptive.certificate.promises import Certificate
from adaptive.text.row_hashes import Hashes
from adaptive.types import OutcomeTable

logger = logging.getLogger(__name__)

VARIABLE = "ADAPTIVE_LOOKS"  # a file in place of the user's own; "off" counts nothing
SHARED = 0.1  # of the rows in common make it a look at the same rows: traffic repeats some texts
KEPT = 2048  # hashes of a set of rows, its smallest: a sample by which sets are compared
_WAIT = 30.0  # seconds for another process to let go of the ledger


@dataclass(frozen=True, slots=True)
class Look:
    """A line of the ledger."""

    rows: str  # SHA-256 of all hashes
    count: int  # different rows
    sample: Hashes  # the smallest hashes, ascending
    design: str
    delta: float  # at which it was tested

    def repeats(self, other: Look) -> bool:
        """Whether it is the same test: same rows, design and delta."""
        return (self.rows, self.design, self.delta) == (other.rows, other.design, other.delta)

    def share_of(self, rows: Hashes) -> float:
        """About the share of these different rows, ascending, that it has looked at."""
        if self.count > len(self.sample):
            rows = rows[rows <= self.sample[-1]]  # beyond that the sample does not tell
        return float(np.isin(rows, self.sample).mean()) if len(rows) else 0.0


def count_look(certificate: Certificate, rows: Hashes, table: OutcomeTable) -> Certificate:
    """Write a look into the ledger; the certificate with what is proved after all looks.

    The same design on the same rows again is no new look. Where the ledger cannot be read or
    written, a warning tells and the certificate says that looks were not counted.

    Args:
        certificate: just tested, with its further levels.
        rows: hashes of the certification rows, as `adaptive.text.row_hashes.hash_texts` makes them.
        table: their outcomes.
    """
    file = ledger()
    if file is None or not len(rows):
        return _told(certificate)
    rows = np.unique(rows)
    design = design_of(certificate, table)
    look = Look(_digest(rows), len(rows), rows[:KEPT], design, certificate.delta_tested)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(file.name + ".lock"), timeout=_WAIT):
            earlier = _read(file)
            if not any(each.repeats(look) for each in earlier):
                _append(file, look, certificate)
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        logger.warning(
            "warning: looks at the certification rows were not counted, %s: %s. Name another file "
            "in %s",
            file,
            reason,
            VARIABLE,
        )
        return _told(certificate)
    shares = [1.0 if each.rows == look.rows else each.share_of(rows) for each in earlier]
    same = [each for each, share in zip(earlier, shares, strict=True) if share >= SHARED]
    paid: dict[str, float] = {}
    for each in (*same, look):
        paid[each.design] = max(paid.get(each.design, 0.0), each.delta)
    return _told(certificate, len(paid), sum(paid.values()), max(shares, default=0.0))


def ledger() -> Path | None:
    """The file of the ledger; None where looks are not to be counted."""
    given = os.environ.get(VARIABLE)
    if given:
        return None if given == "off" else Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "adaptive" / "looks.jsonl"


def design_of(certificate: Certificate, table: OutcomeTable) -> str:
    """SHA-256 of what was tested: promises, fronts, seeds and what each stage answers the rows.

    Thresholds come from the weights' reliabilities on the search rows, so other weights are
    another design though they answer these rows alike.
    """
    conditions = certificate.conditions
    content = {
        "promises": [
            {
                "targets": [asdict(target) for target in each.targets],
                "tests": [claim.test for claim in each.claims],
                "front": [asdict(tested.policy) for tested in each.front],
            }
            for each in (certificate, *certificate.further)
        ],
        "seeds": dict(certificate.seeds),
        "served": [conditions.device, conditions.dtype, conditions.max_length],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    if table.classes is not None:
        digest.update(np.ascontiguousarray(table.predictions, dtype="<i4").tobytes())
    else:
        for values in (table.worth.score, table.worth.alike, table.reliability):
            digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    return digest.hexdigest()


def _told(
    certificate: Certificate,
    looks: int | None = None,
    spent: float | None = None,
    seen: float = 0.0,
) -> Certificate:
    """The certificate with its looks, in figures and in words."""
    found = replace(certificate, looks=looks, spent=spent, seen_before=seen)
    words = looked_at(looks, certificate.planned, found.confidence_proved)

    def tell(each: Certificate) -> Certificate:
        assumptions = (*each.assumptions, words)
        return replace(each, looks=looks, spent=spent, seen_before=seen, assumptions=assumptions)

    return replace(tell(found), further=tuple(map(tell, certificate.further)))


def _digest(rows: Hashes) -> str:
    return hashlib.sha256(rows.astype("<u8").tobytes()).hexdigest()


def _append(file: Path, look: Look, certificate: Certificate) -> None:
    promises = [
        {"metric": target.metric, "level": target.level, "confidence": target.confidence}
        for target in certificate.targets
    ]
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": look.rows,
        "count": look.count,
        "sample": look.sample.astype("<u8").tobytes().hex(),
        "design": look.design,
        "delta": look.delta,
        "promises": promises,
        "verdict": certificate.verdict,
    }
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _read(file: Path) -> list[Look]:
    """The looks so far; a line that is none is left out, with a warning."""
    if not file.exists():
        return []
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(_look(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            logger.warning("warning: %s, line %d is no look and was left out", file, number)
    return found


def _look(line: Mapping[str, Any]) -> Look:
    sample = np.frombuffer(bytes.fromhex(line["sample"]), dtype="<u8").astype(np.uint64)
    return Look(
        str(line["rows"]), int(line["count"]), sample, str(line["design"]), float(line["delta"])
    )
