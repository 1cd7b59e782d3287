"""From a request's items to token rows. Runs in threads: tokenizers let go of the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaptive.bundle.contents import Bundle
from adaptive.options import Overflow, stride_within
from adaptive.text import inputs, streams
from adaptive.text import tokens as token_rows
from adaptive.types import Tokens


@dataclass(frozen=True, slots=True)
class Prepared:
    """The token rows of n items. Of refused ones they stand in, so that indices stay aligned."""

    tokens: Tokens
    faults: dict[int, str]  # why items were refused, by index
    paired: bool | None  # whether they are pairs; None where none is left

    def __len__(self) -> int:
        return len(self.tokens.truncated)


def prepare(
    bundle: Bundle,
    items: Sequence[Any],
    *,
    overflow: Overflow,
    stride: int,
    paired: bool | None = None,
) -> Prepared:
    """Check the items and tokenise what is text. A bad item harms no other.

    Args:
        paired: whether they have to be pairs, as pieces of a stream; None: the most of them decide.
    """
    if paired is None:
        texts, pairs, faults = inputs.check(items)
    else:
        texts, pairs, faults = streams.check_like(items, paired)
    tokens, long = token_rows.tokenize_each(
        bundle.tokenizer,
        texts,
        pairs,
        max_length=bundle.max_length,
        overflow=overflow,
        stride=stride_within(stride, bundle.max_length, bundle),
        redact=bundle.redact,
    )
    faults = faults | long
    kind = None if len(faults) == len(texts) else pairs is not None
    return Prepared(tokens, faults, kind)
