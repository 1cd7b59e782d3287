"""Deals requests into the parts that fit, search, certify and judge.

Requests of one session stay together, and so do requests of the same prompt: a row that certifies
has had no twin in the rows that fitted. In the certify and test parts one request stands for each
such unit, drawn at random, since rows that hang together are no independent evidence; the promise
is then about a request drawn from a session drawn at random. `count_repeats` keeps repeated prompts
of different sessions apart, where they are separate requests of the traffic promised for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from adaptive.errors import DataError
from adaptive.recorded.outcomes import Outcomes

Rows = NDArray[np.int64]
PARTS = ("fit", "search", "certify", "test")
SHARES: Mapping[str, float] = {"fit": 0.3, "search": 0.2, "certify": 0.5, "test": 0.0}
FEWEST = 20  # units of a part that is not empty


@dataclass(frozen=True, slots=True)
class Deal:
    """Which requests serve for what, and what stands behind them."""

    rows: Mapping[str, Rows]  # by part, ascending
    requests: int
    sessions: int | None  # None: no sessions are recorded
    prompts: int | None  # distinct ones; None: none are recorded
    units: int  # that were dealt


def deal(
    outcomes: Outcomes,
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
    *,
    count_repeats: bool = False,
) -> Deal:
    """Deal all requests, the same way for the same seed.

    Args:
        shares: of the units, by part.
        count_repeats: whether requests of the same prompt are separate ones, each drawn from the
            traffic that is promised for.

    Raises:
        DataError: shares that are none, or too few requests for them.
    """
    given = [float(shares.get(part, 0.0)) for part in PARTS]
    if min(given) < 0.0 or abs(sum(given) - 1.0) > 1e-6 or set(shares) - set(PARTS):
        raise DataError(f"shares must be of {', '.join(PARTS)}, and sum to 1")
    sessions = _codes(outcomes.requests.get("session"))
    prompts = _codes(outcomes.requests.get("prompt"), letters=True)
    unit = _units(len(outcomes), [sessions] if count_repeats else [sessions, prompts])
    count = int(unit.max()) + 1 if len(unit) else 0
    generator = np.random.default_rng([seed, 17])
    order = generator.permutation(count)
    ends = np.round(np.cumsum(given) * count).astype(int)
    rows: dict[str, Rows] = {}
    for part, start, stop in zip(PARTS, [0, *ends[:-1]], ends, strict=True):
        if start < stop < start + FEWEST:
            raise DataError(
                f"{count:,} separate requests leave {stop - start} to {part}; expected at least "
                f"{FEWEST}. Record more requests, or change the shares"
            )
        inside = np.flatnonzero(np.isin(unit, order[start:stop]))
        rows[part] = inside if part in ("fit", "search") else _one_each(inside, unit, generator)
    told = [None if codes is None else len(np.unique(codes)) for codes in (sessions, prompts)]
    return Deal(rows, len(outcomes), told[0], told[1], count)


def _codes(values: NDArray[np.object_] | None, *, letters: bool = False) -> Rows | None:
    """A number for each different value; a row without one has a number of its own."""
    if values is None:
        return None
    known: dict[str, int] = {}
    found = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        key = f"\0{row}" if value is None else _letters(value) if letters else str(value)
        found[row] = known.setdefault(key, len(known))
    return found


def _letters(text: str) -> str:
    """What tells a prompt from another: letters and digits, without case; else the text itself."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold())) or text


def _units(size: int, codes: list[Rows | None]) -> Rows:
    """The unit of each row: rows that share a code, directly or over others, share a unit."""
    unit = np.arange(size)
    for each in codes:
        if each is None:
            continue
        links = coo_array(
            (np.ones(size), (unit, size + each)), shape=(2 * size, 2 * size)
        )  # units and codes are the two sides of a graph
        parts = connected_components(links, directed=False)[1][unit]
        unit = np.unique(parts, return_inverse=True)[1].astype(np.int64)
    return unit


def _one_each(rows: Rows, unit: Rows, generator: np.random.Generator) -> Rows:
    """One row of each unit, drawn at random."""
    mixed = generator.permutation(rows)
    _, first = np.unique(unit[mixed], return_index=True)
    return np.sort(mixed[first])
