"""Items given to a pipeline: which are text, which are pairs, and which are neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Pair = tuple[str, str | None]  # the second is None for a single text
# Texts [n], second texts [n] or None, and why items were refused, by their index.
Checked = tuple[list[str], list[str] | None, dict[int, str]]


def check(items: Iterable[Any]) -> Checked:
    """Texts [n], second texts [n] or None, and why items were refused, by their index.

    An item is a text, a pair of texts (a tuple or list of two), or `{"text", "text_pair"}`.
    Empty and blank texts are texts. Refused items hold an empty text, so that indices stay
    aligned. Singles and pairs cannot be mixed: the fewer are refused, or, where both are as
    many, the kind that did not come first.
    """
    faults: dict[int, str] = {}
    read: list[Pair] = []
    for index, item in enumerate(items):
        found = _read(item)
        if isinstance(found, str):
            faults[index] = found
            found = ("", None)
        read.append(found)
    paired = _refuse_mixture(read, faults)
    texts = ["" if index in faults else first for index, (first, _) in enumerate(read)]
    if not paired:
        return texts, None, dict(sorted(faults.items()))
    pairs = ["" if index in faults else second or "" for index, (_, second) in enumerate(read)]
    return texts, pairs, dict(sorted(faults.items()))


def fault(text: Any) -> str | None:
    """Why `text` is no text that a tokenizer can read; None if it is one."""
    if isinstance(text, str):
        return _surrogate(text)
    if text is None:
        return "expected text, found None"
    if isinstance(text, bytes | bytearray | memoryview):
        return f"expected text, found {type(text).__name__}; decode it first"
    if isinstance(text, float) and text != text:
        return "expected text, found NaN, a missing value"
    return f"expected text, found {type(text).__name__}"


def _read(item: Any) -> Pair | str:
    """The item as a pair, or why it is refused."""
    if isinstance(item, str):
        return _surrogate(item) or (str(item), None)
    if isinstance(item, Mapping):
        return _read_mapping(item)
    if isinstance(item, tuple | list):
        if len(item) != 2:
            return f"expected a pair of two texts, found {len(item)} in a {type(item).__name__}"
        return _read_pair(item[0], item[1], ("first text", "second text"))
    return fault(item) or "expected text"


def _read_mapping(item: Mapping[Any, Any]) -> Pair | str:
    unknown = [key for key in item if key not in ("text", "text_pair")]
    if unknown or "text" not in item:
        # Keys could be user text, so they are counted and not named.
        return (
            f"expected the keys 'text' and, for pairs, 'text_pair'; found {len(item)} keys, "
            f"{len(unknown)} of them unknown"
        )
    if item.get("text_pair") is None:
        reason = fault(item["text"])
        return f"text: {reason}" if reason else (str(item["text"]), None)
    return _read_pair(item["text"], item["text_pair"], ("text", "text_pair"))


def _read_pair(first: Any, second: Any, names: tuple[str, str]) -> Pair | str:
    for name, side in zip(names, (first, second), strict=True):
        reason = fault(side)
        if reason:
            return f"{name}: {reason}"
    return str(first), str(second)


def _refuse_mixture(read: list[Pair], faults: dict[int, str]) -> bool:
    """Whether the items are pairs; the odd ones are added to `faults`."""
    kinds = {
        index: second is not None for index, (_, second) in enumerate(read) if index not in faults
    }
    pairs = sum(kinds.values())
    singles = len(kinds) - pairs
    paired = pairs > singles or (pairs == singles > 0 and next(iter(kinds.values())))
    if pairs and singles:
        found, rest = ("a single text", "pairs") if paired else ("a pair", "single texts")
        for index, kind in kinds.items():
            if kind is not paired:
                faults[index] = f"found {found} among {rest}; give them in separate calls"
    return paired


def _surrogate(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start}; "
            "the text was decoded wrongly"
        )
    return None
