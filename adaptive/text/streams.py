"""Items that come as a collection or one after another, and the kind they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from adaptive.text import inputs


def is_stream(given: Any) -> bool:
    """Whether the answers are wanted lazily: an iterator or a torch dataset."""
    return isinstance(given, Iterator | Dataset)


def is_many(given: Any) -> bool:
    """Whether it is a collection of items and not a single one, good or bad."""
    single = isinstance(given, str | bytes | bytearray | memoryview | Mapping)
    return isinstance(given, Iterable) and not single and getattr(given, "ndim", 1) > 0


def each(given: Any) -> Iterator[Any]:
    """The items of an iterator or of either kind of torch dataset."""
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        rows: Any = given  # torch types no length, yet its loaders ask for one
        return (rows[index] for index in range(len(rows)))
    return iter(given)


def kind_of(items: Sequence[Any]) -> bool | None:
    """Whether the first item that could be a text or a pair is a pair; None where none could."""
    for item in items:
        if isinstance(item, str):
            return False
        if isinstance(item, Mapping):
            return item.get("text_pair") is not None
        if isinstance(item, tuple | list):
            return True
    return None


def checked(items: Iterator[Any], size: int) -> Iterator[inputs.Checked]:
    """The items in pieces of `size`, checked; the first one decides between texts and pairs."""
    paired = None
    for piece in pieces(items, size):
        paired = kind_of(piece) if paired is None else paired
        yield check_like(piece, paired)


def pieces(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of `size`; if they end in an error, it follows the items before it."""
    while True:
        piece: list[Any] = []
        try:
            for item in islice(items, size):
                piece.append(item)
        except Exception:
            if piece:
                yield piece
            raise
        if not piece:
            return
        yield piece


def check_like(items: Sequence[Any], paired: bool | None) -> inputs.Checked:
    """`adaptive.text.inputs.check` where the kind is known: items of the other one are refused.

    Which items of a stream are answered must not depend on where it is cut into pieces, so
    the majority of a piece cannot decide.
    """
    odd = {index for index, item in enumerate(items) if kind_of([item]) is (not paired)}
    alike = [None if index in odd else item for index, item in enumerate(items)]
    texts, pairs, faults = inputs.check(alike)
    found, rest = ("a single text", "pairs") if paired else ("a pair", "single texts")
    faults |= dict.fromkeys(odd, f"found {found} among {rest}; give them in separate calls")
    return texts, pairs, dict(sorted(faults.items()))
