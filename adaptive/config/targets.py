"""A target as people type it: `agreement=0.02`, or `accuracy_drop=0.01@region`."""

from __future__ import annotations

from typing import get_args

from adaptive.errors import ConfigError
from adaptive.types import Metric, Target


def parse_target(text: str, confidence: float) -> Target:
    """The target of `metric=level`, or of `metric=level@column` where it is for each group.

    Raises:
        ConfigError: no such metric, or the level or the confidence is no share.
    """
    name, _, rest = text.partition("=")
    number, at, group = rest.partition("@")
    known = {each: each for each in get_args(Metric)}
    if name not in known:
        raise ConfigError(
            f"target {text!r}: expected one of {', '.join(known)}, then = and a level"
        )
    try:
        level = float(number)
    except ValueError:
        level = -1.0
    if not 0.0 <= level <= 1.0:
        raise ConfigError(f"target {text!r}: {number!r} is no share; expected a number from 0 to 1")
    if at and not group:
        raise ConfigError(f"target {text!r}: expected a column of the data behind @")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence {confidence:g}: expected a number between 0 and 1")
    return Target(known[name], level, confidence, group or None)
