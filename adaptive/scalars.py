"""Numbers and texts of numpy, torch and their like, taken for what they are."""

from __future__ import annotations

import numbers
from typing import Any


def plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own value; anything else as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    dated = getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M")
    return value if dated else value.item()  # of a date it could be a count of nanoseconds


def is_whole(value: Any) -> bool:
    """Whether it is a whole number. Truth values are none here."""
    value = plain(value)
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Whether it is NaN, of whatever library, or pandas' NA or NaT."""
    value = plain(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real) and bool(value != value)
