"""Texts to token rows, and token rows to batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.text import redact as personal
from adaptive.types import TokenBatch, Tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Overflow = Literal["truncate", "error", "windows"]

# One call's worth. The encodings hold about 150 bytes a token until they are unpacked, so
# the characters are capped besides the texts.
_CHUNK_TEXTS = 4096
_CHUNK_CHARACTERS = 2_000_000

_settings = threading.Lock()


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int,
    overflow: Overflow = "truncate",
    stride: int = 64,
    redact: personal.Kinds = (),
) -> Tokens:
    """Token rows of `texts` [n], or of (text, pair) where `pairs` [n] is given.

    A text of more than `max_length` tokens, specials included, is cut as the tokenizer itself
    would (`truncate`: of a pair, the longer side), refused (`error`), or becomes several rows
    that overlap by `stride` tokens (`windows`: of a pair, over the longer side, the other one
    repeated). A text without any token gets one special token, so that every row has one.
    Personal data of the kinds in `redact` are replaced before the tokenizer sees them.

    The tokenizer is only ever asked for whole texts and the cutting is done here: its
    truncation settings are shared state, which threads would change under each other.

    Raises:
        InputError: texts too long under `error`, or pairs that leave no room for windows.
        ValueError: a tokenizer not backed by `tokenizers`, or a `max_length` without room
            for a token beside the special ones.
        ImportError: personal data are to be replaced, and presidio is not installed.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is not backed by the tokenizers library; save it as "
            "tokenizer.json and load it with AutoTokenizer"
        )
    _lift_limits(tokenizer)
    if redact:
        texts = personal.redact(texts, redact)
        pairs = pairs and personal.redact(pairs, redact)
    cut = _Cut(max_length, overflow, stride, tokenizer.truncation_side == "left")
    faults: dict[int, str] = {}
    parts: list[Tokens] = []
    for chunk in _chunks(texts, pairs):
        part, chunk_faults = _encode(tokenizer, texts, pairs, chunk, cut)
        parts.append(part)
        faults.update(chunk_faults)
    if faults:
        raise InputError(faults)
    return parts[0] if len(parts) == 1 else concatenate(parts)


def tokenize_each(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    **options: Any,
) -> tuple[Tokens, dict[int, str]]:
    """`tokenize`, where texts that are refused become empty ones; and why they were, by index."""
    faults: dict[int, str] = {}
    while True:
        try:
            return tokenize(tokenizer, texts, pairs, **options), faults
        except InputError as error:
            faults |= error.faults
            texts = ["" if i in faults else text for i, text in enumerate(texts)]
            pairs = pairs and ["" if i in faults else pair for i, pair in enumerate(pairs)]


def concatenate(parts: Sequence[Tokens]) -> Tokens:
    """The rows of all parts; the texts of a part are counted on from the parts before it."""
    texts = np.cumsum([0, *(len(part.truncated) for part in parts)])
    starts = np.cumsum([0, *(len(part.ids) for part in parts)])
    types = [part.types for part in parts if part.types is not None]
    filled = sum(len(part) > 0 for part in parts)  # without rows there are no types to tell by
    if types and len(types) < filled:
        raise ValueError(f"{len(types)} of {filled} parts have token types; all must or none")
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
    owner = [part.owner + first for part, first in zip(parts, texts, strict=False)]
    return Tokens(
        ids=_join([part.ids for part in parts], np.int32),
        offsets=_join([np.zeros(1, np.int64), *offsets], np.int64),
        types=_join(types, np.int8) if types else None,
        owner=_join(owner, np.int64),
        truncated=_join([part.truncated for part in parts], np.bool_),
    )


def select(tokens: Tokens, texts: NDArray[np.integer[Any]]) -> Tokens:
    """The rows of the given texts, in the given order; text texts[i] becomes text i."""
    first = np.searchsorted(tokens.owner, texts, side="left")
    count = np.searchsorted(tokens.owner, texts, side="right") - first
    rows = ranges(first, count)
    lengths = tokens.lengths[rows]
    flat = ranges(tokens.offsets[rows], lengths)
    return Tokens(
        ids=tokens.ids[flat],
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        types=None if tokens.types is None else tokens.types[flat],
        owner=np.repeat(np.arange(len(texts), dtype=np.int64), count),
        truncated=tokens.truncated[texts],
    )


def pack(
    tokens: Tokens, rows: NDArray[np.integer[Any]], device: torch.device | str = "cpu"
) -> TokenBatch:
    """The given rows [b] on a device, one behind the other."""
    import torch

    from adaptive.device.transfer import put

    lengths, flat = tokens.lengths[rows], places(tokens, rows)

    def taken(values: NDArray[np.integer[Any]]) -> torch.Tensor:
        return put(values[flat].astype(np.int64), torch.device(device))

    types = None if tokens.types is None else taken(tokens.types)
    return TokenBatch(taken(tokens.ids), lengths, types)


def places(tokens: Tokens, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64] | slice:
    """Where the tokens of the given rows lie, one row behind the other."""
    if len(rows) == 1:
        first = int(tokens.offsets[rows[0]])
        return slice(first, int(tokens.offsets[rows[0] + 1]))
    return ranges(tokens.offsets[rows], tokens.lengths[rows])


def batches(
    lengths: NDArray[np.integer[Any]], batch_size: int, budget: int | None = None
) -> list[NDArray[np.int64]]:
    """Row indices, longest first, in batches of rows alike in length.

    A batch holds at most `batch_size` rows, and at most `budget` tokens unless one row alone
    has more.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    if budget is None:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ends = np.cumsum(lengths[order])
    found, start, before = [], 0, 0
    while start < len(order):
        fits = int(np.searchsorted(ends, before + budget, side="right"))
        stop = max(start + 1, min(start + batch_size, fits))
        found.append(order[start:stop])
        start, before = stop, int(ends[stop - 1])
    return found


@dataclass(frozen=True, slots=True)
class _Cut:
    """How texts of too many tokens are cut."""

    limit: int  # tokens of a row
    overflow: Overflow
    stride: int
    from_left: bool

    def rows(self, sequence: Sequence[int | None]) -> list[NDArray[np.int64]] | str:
        """Positions of the tokens of each row, or why there can be none.

        `sequence` tells for every token of the whole text its side of the pair, None for
        special tokens.
        """
        side = np.array([-1 if s is None else s for s in sequence], dtype=np.int8)
        special, left, right = (np.flatnonzero(side == which) for which in (-1, 0, 1))
        room = self.limit - len(special)
        if self.overflow == "error":
            return f"{len(side)} tokens, the limit is {self.limit}"
        if room < 1:
            raise ValueError(
                f"max_length is {self.limit}, but the tokenizer alone adds {len(special)} tokens"
            )
        if self.overflow == "truncate":
            cut = self._head(left, right, room)
            return [np.sort(np.concatenate([special, *cut]))]
        long, short = (left, right) if len(left) >= len(right) else (right, left)
        room -= len(short)
        if room <= self.stride:
            return (
                f"windows of {self.limit} tokens that overlap by {self.stride} leave room for "
                f"{room} tokens beside the shorter of the pair and the special tokens"
            )
        step = room - self.stride
        starts = range(0, max(len(long) - self.stride, 1), step)
        windows = [long[start : start + room] for start in starts]
        return [np.sort(np.concatenate([special, short, window])) for window in windows]

    def _head(
        self, left: NDArray[np.int64], right: NDArray[np.int64], room: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both sides after `longest_first`: the longer is cut to the shorter, then both."""
        short = min(len(left), len(right))
        keep_short = short if 2 * short <= room else room // 2
        keep = (keep_short, room - keep_short)
        keep_left, keep_right = keep if len(left) <= len(right) else keep[::-1]
        if self.from_left:
            return left[len(left) - keep_left :], right[len(right) - keep_right :]
        return left[:keep_left], right[:keep_right]


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    chunk: slice,
    cut: _Cut,
) -> tuple[Tokens, dict[int, str]]:
    """Rows of one chunk, and the faults of its texts by their index in the whole."""
    encodings = _encodings(tokenizer, texts[chunk], None if pairs is None else pairs[chunk])
    ids: list[list[int]] = [each.ids for each in encodings]
    typed = "token_type_ids" in tokenizer.model_input_names
    types = [each.type_ids for each in encodings] if typed else None
    lengths = [len(each) for each in ids]
    owner: list[int] = list(range(len(ids)))
    faults: dict[int, str] = {}
    for index in [index for index, length in enumerate(lengths) if not length]:
        ids[index] = [_filler(tokenizer)]
        if types is not None:
            types[index] = [0]
    # From the back, so that rows put in do not move those still to come.
    long = [index for index, length in enumerate(lengths) if length > cut.limit]
    for index in reversed(long):
        rows = cut.rows(encodings[index].sequence_ids)
        if isinstance(rows, str):
            faults[chunk.start + index] = rows
            continue
        ids[index : index + 1] = _take(ids[index], rows)
        owner[index : index + 1] = [index] * len(rows)
        if types is not None:
            types[index : index + 1] = _take(types[index], rows)
    truncated = np.zeros(len(lengths), np.bool_)
    if long:
        truncated[long] = cut.overflow == "truncate"
    ends = np.array([0, *accumulate(map(len, ids))], dtype=np.int64)
    return Tokens(
        ids=np.fromiter(chain.from_iterable(ids), np.int32, ends[-1]),
        offsets=ends,
        types=None if types is None else np.fromiter(chain.from_iterable(types), np.int8, ends[-1]),
        owner=np.array(owner, dtype=np.int64),
        truncated=truncated,
    ), dict(sorted(faults.items()))


def _encodings(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Any]:
    """What the tokenizers library makes of texts, or of pairs.

    It is asked directly where transformers would do no more: for a short text half of the time
    went into transformers' own call.
    """
    kind: Any = type(tokenizer)
    if _has_plain_call(kind):
        items = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        return list(tokenizer.backend_tokenizer.encode_batch_fast(items))
    encoded = tokenizer(
        list(texts),
        text_pair=None if pairs is None else list(pairs),
        add_special_tokens=True,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        verbose=False,  # else it warns of texts longer than the model, which the caller cuts
    )
    return list(encoded.encodings)


@cache
def _has_plain_call(kind: Any) -> bool:
    """Whether tokenizers of this class are called as transformers calls them all."""
    from transformers import PreTrainedTokenizerFast as Base

    names = ("__call__", "_encode_plus")
    return all(getattr(kind, name) is getattr(Base, name, None) for name in names)


def _take(values: list[int], rows: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    array = np.asarray(values)
    return [array[positions].tolist() for positions in rows]


def _filler(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands for a text without tokens."""
    for name in ("bos", "eos", "cls", "sep", "pad", "unk"):
        found = getattr(tokenizer, f"{name}_token_id", None)
        if found is not None:
            return int(found)
    raise ValueError("the tokenizer has no special token to stand for an empty text")


def _lift_limits(tokenizer: Any) -> None:
    """Switches off truncation and padding that came with the tokenizer's file.

    Special tokens that texts spell out are read as the tokenizer says.

    Every call would do so; done once under a lock, calls have no setting left to change.
    """
    with _settings:
        backend = tokenizer.backend_tokenizer
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens != tokenizer.split_special_tokens:
            backend.encode_special_tokens = tokenizer.split_special_tokens


def _chunks(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[slice]:
    start = characters = 0
    for index, text in enumerate(texts):
        size = len(text) + (0 if pairs is None else len(pairs[index]))
        full = index - start == _CHUNK_TEXTS or characters + size > _CHUNK_CHARACTERS
        if full and index > start:
            yield slice(start, index)
            start, characters = index, 0
        characters += size
    if start < len(texts):
        yield slice(start, len(texts))


def ranges(
    starts: NDArray[np.integer[Any]], lengths: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Whole numbers: starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ..."""
    ends = np.cumsum(lengths, dtype=np.int64)
    first = np.repeat(starts - (ends - lengths), lengths)
    return first + np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)


def _join(arrays: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *arrays]).astype(kind, copy=False)
