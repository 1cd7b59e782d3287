"""Disjoint splits: train / fit / search / certify / test. A row never serves twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import DataError

if TYPE_CHECKING:
    from adaptive.config.recipe import SplitSizes
    from adaptive.training.data import Dataset

POOL = "pool"  # see `adaptive.training.data.with_pool`
PARTS = ("train", "fit", "search", "certify", "test")
_USUAL = {"train": 6, "fit": 1, "search": 1, "certify": 1, "test": 1}  # of rows without a size
_LEAST = 8  # rows of each part; with fewer, nothing fitted or measured on them means anything

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Splits:
    """Row numbers of each part, ascending."""

    train: Rows
    fit: Rows  # reliability and router
    search: Rows  # policy
    certify: Rows
    test: Rows
    known: int  # rows that left train, fit and search: certify or test has their text
    repeated: int  # rows that left them besides, as copies of others of the three
    unused: Rows  # that the sizes leave over

    @property
    def duplicates(self) -> int:
        """Rows that left, for either reason."""
        return self.known + self.repeated

    def report(self) -> str:
        """The sizes in one line."""
        parts = [f"{part} {len(getattr(self, part)):,}" for part in PARTS]
        return (
            f"{', '.join(parts)} rows; {self.known:,} left train, fit and search because certify "
            f"or test has their text, {self.repeated:,} as copies; {len(self.unused):,} rows unused"
        )


def make_splits(data: Dataset, sizes: SplitSizes, seed: int) -> Splits:
    """Cuts `data` into five parts, the same ones for the same seed.

    A source's own test rows stay test rows, its validation rows give fit, search and certify
    (joined by `sizes.from_train` rows that training gives up), its train rows whatever the
    others do not. A pool's rows give search and certify in their place. Sizes are rows, or shares
    of the rows they are drawn from (`validation` for fit where there is one, and so on); parts
    without a size divide what is left, all of it. Labels are spread evenly over the parts of each
    source.

    Rows are dealt as they come, repeated texts and all, so that certify and test hold each text as
    often as the data do. Then copies leave the other three, so that these are smaller than their
    sizes: rows whose text stands in certify or test; of the rest, search, fit and train keep the
    first of each text, in this order. So of a text in train and search the train row leaves.
    Texts are the same if they are alike but for case and white space, pairs if both texts are.

    Raises:
        DataError: too few rows, a single class, or a label that no train row has.
    """
    pools = _pools(data)
    _require_classes(data, pools["train"])
    random = np.random.default_rng(seed)
    given = pools
    pools = _join(data, pools, sizes.from_train, random)
    dealt: dict[str, Rows] = {}
    for pool, rows in pools.items():
        counts = _counts(_name(data, given[pool]), len(rows), _parts_of(pool, pools), sizes)
        if data.strata is not None and "train" in counts:
            _require_row_per_label(data, rows, counts["train"])
        dealt |= _deal(rows, counts, data.strata, random)
    _require_known_labels(data, dealt)
    parts, known = _without_copies(data, dealt)
    _require_known_labels(data, parts, left=", once copies left train")
    _require_classes(data, parts["train"])
    rows, kept = (np.concatenate(list(each.values())) for each in (dealt, parts))
    unused = np.setdiff1d(np.concatenate(list(given.values())), rows)
    return Splits(**parts, known=known, repeated=len(rows) - len(kept) - known, unused=unused)


def _pools(data: Dataset) -> dict[str, Rows]:
    """Rows by the part the source gives them; all are `train` where it gives none."""
    if data.split is None:
        return {"train": np.arange(len(data), dtype=np.int64)}
    pools = {
        name: np.flatnonzero(data.split == name)
        for name in ("test", "validation", "train", POOL)
        if (data.split == name).any()
    }
    if "train" not in pools:
        raise DataError(f"{data.name}: expected train rows, found only {' and '.join(pools)} rows")
    return pools


def _parts_of(pool: str, pools: dict[str, Rows]) -> list[str]:
    held_out = "validation" if "validation" in pools else "train"
    giver = {
        "test": "test" if "test" in pools else "train",
        "fit": held_out,
        **dict.fromkeys(("search", "certify"), POOL if POOL in pools else held_out),
        "train": "train",
    }
    return [part for part in PARTS if giver[part] == pool]


def _join(
    data: Dataset, pools: dict[str, Rows], wanted: int | None, random: np.random.Generator
) -> dict[str, Rows]:
    """The pools, with that many rows of train moved to validation."""
    if wanted is None:
        return pools
    if "validation" not in pools:
        raise DataError(
            f"{data.name}: splits.from_train moves train rows to the validation rows, and there "
            "are none; without them fit, search and certify are cut from train anyway"
        )
    rows = pools["train"]
    if wanted > len(rows):
        raise DataError(f"{_name(data, rows)}: too few rows, {wanted} wanted of {len(rows)}")
    moved = _deal(rows, {"validation": wanted}, data.strata, random)["validation"]
    return pools | {
        "validation": np.sort(np.concatenate([pools["validation"], moved])),
        "train": np.setdiff1d(rows, moved),
    }


def _without_copies(data: Dataset, dealt: dict[str, Rows]) -> tuple[dict[str, Rows], int]:
    """The parts after copies left, and how many rows left since certify or test has their text."""
    text = _text_numbers(data)
    judged = np.zeros(len(data), dtype=np.bool_)  # by text
    judged[text[np.concatenate([dealt["certify"], dealt["test"]])]] = True
    seen, known = judged.copy(), 0
    parts = dict(dealt)
    for part in ("search", "fit", "train"):
        rows = dealt[part]
        known += int(judged[text[rows]].sum())
        rows = rows[~seen[text[rows]]]
        parts[part] = np.sort(rows[np.unique(text[rows], return_index=True)[1]])
        seen[text[rows]] = True
        if len(parts[part]) < _LEAST:
            raise DataError(
                f"{_name(data, dealt[part])}: too few rows, {part} keeps {len(parts[part])} of "
                f"{len(dealt[part])} without texts that stand in other parts or twice; it needs at "
                f"least {_LEAST}"
            )
    return parts, known


def repeats(data: Dataset) -> bool:
    """Whether any text stands twice."""
    return len(distinct_rows(data)) < len(data)


def distinct_rows(data: Dataset) -> Rows:
    """The first row of each text, ascending."""
    return np.sort(np.unique(_text_numbers(data), return_index=True)[1])


def _text_numbers(data: Dataset) -> NDArray[np.int64]:
    """Numbers [n] that rows of the same text share, below n."""
    numbers: dict[str, int] = {}
    pairs = data.pairs or [""] * len(data)
    folded = map(fold, data.texts, pairs)
    return np.fromiter((numbers.setdefault(each, len(numbers)) for each in folded), np.int64)


def fold(text: str, pair: str | None = None) -> str:
    """What texts (or pairs) that count as the same have in common."""
    return "\0".join(" ".join(each.casefold().split()) for each in (text, pair or ""))


def _name(data: Dataset, rows: Rows) -> str:
    """The files that the rows come from."""
    tables = np.unique(data.places.table[rows])
    return ", ".join(data.places.tables[table].name for table in tables)


def _counts(pool: str, rows: int, parts: Sequence[str], sizes: SplitSizes) -> dict[str, int]:
    """Rows of each part that draws from a pool of `rows`; `pool` names its files."""
    asked: dict[str, float | int | None] = {part: getattr(sizes, part) for part in parts}
    counts = {part: each for part, each in asked.items() if isinstance(each, int)}
    shares = {part: each for part, each in asked.items() if isinstance(each, float)}
    counts |= _rounded({part: share * rows for part, share in shares.items()})
    left = rows - sum(counts.values())
    if left < 0:
        raise DataError(f"{pool}: too few rows, {rows - left} wanted of {rows}")
    free = {part: _USUAL[part] for part in parts if asked[part] is None}
    whole = sum(free.values())
    counts |= _rounded({part: left * each / whole for part, each in free.items()})
    if min(counts.values()) < _LEAST:
        told = ", ".join(f"{part} {counts[part]}" for part in parts)
        raise DataError(f"{pool}: too few rows, {rows} give {told}; each needs at least {_LEAST}")
    return {part: counts[part] for part in parts}


def _rounded(wanted: dict[str, float]) -> dict[str, int]:
    """Whole numbers near the wanted ones, with their sum rounded rather than each."""
    ends = np.rint(np.cumsum([0.0, *wanted.values()])).astype(int)
    return dict(zip(wanted, np.diff(ends).tolist(), strict=True))


def _deal(
    rows: Rows,
    counts: dict[str, int],
    labels: NDArray[np.int32] | None,
    random: np.random.Generator,
) -> dict[str, Rows]:
    """Rows of each part, every label spread in proportion to the parts' sizes.

    Rows sorted by label are dealt like cards, a part's turns evenly spaced over the whole
    deal, so that sizes are exact and every run of one label is shared out fairly. One row of
    every label goes to train beforehand.
    """
    rows = random.permutation(rows)
    first: Rows = rows[:0]
    counts = dict(counts)
    if labels is not None:
        rows = rows[np.argsort(labels[rows], kind="stable")]
        if "train" in counts:
            leading = np.unique(labels[rows], return_index=True)[1]
            first, rows = rows[leading], np.delete(rows, leading)
            counts["train"] -= len(first)
    counts[""] = len(rows) - sum(counts.values())  # the rows left over take turns as well
    turns = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts.values()])
    owner = np.repeat(np.arange(len(counts)), list(counts.values()))
    owner = owner[np.argsort(turns, kind="stable")]
    parts = {part: rows[owner == number] for number, part in enumerate(counts) if part}
    if "train" in parts:
        parts["train"] = np.concatenate([first, parts["train"]])
    return {part: np.sort(each) for part, each in parts.items()}


def _require_classes(data: Dataset, train: Rows) -> None:
    if data.strata is None:
        return
    found: NDArray[Any] = np.unique(data.strata[train])
    if len(found) < 2:
        raise DataError(
            f"{_name(data, train)}: one class only, all {len(train)} train rows have the same "
            "label; at least two are needed"
        )


def _require_row_per_label(data: Dataset, rows: Rows, train: int) -> None:
    assert data.strata is not None
    labels = len(np.unique(data.strata[rows]))
    if train < labels:
        raise DataError(
            f"{_name(data, rows)}: too few rows, {train} train rows for {labels} labels"
        )


def _require_known_labels(data: Dataset, parts: dict[str, Rows], left: str = "") -> None:
    strata = data.strata
    if strata is None:
        return
    known = np.isin(np.arange(strata.max(initial=-1) + 1), strata[parts["train"]])
    for part in ("fit", "search", "certify", "test"):
        rows = parts[part][strata[parts[part]] >= 0]  # a pool's have none
        strange = rows[~known[strata[rows]]]
        if len(strange):
            row = int(strange[0])
            raise DataError(
                f"{data.places[row]}: its label is in {part} and in none of train's rows{left}, as "
                f"that of {len(strange)} rows; give it more rows, or leave them out"
            )
