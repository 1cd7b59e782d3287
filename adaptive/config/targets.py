"""A target as people type it: `agreement=0.02`, or `accuracy_drop=0.01@region`."""

from __future__ import annotations

from typing import Any, get_args

from adaptive.errors import ConfigError
from adaptive.types import Metric, Target


def read_target(text: str) -> dict[str, Any]:
    """The fields of `metric=level`, or of `metric=level@column`: a target for each group.

    Raises:
        ConfigError: no such metric, or the level is no share.
    """
    name, _, rest = text.partition("=")
    number, at, group = rest.partition("@")
    known = get_args(Metric)
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
    return {"metric": name, "level": level, "group": group or None}


def show_target(target: Target) -> str:
    """A target in that form; its confidence is left out."""
    group = "" if target.group is None else f"@{target.group}"
    return f"{target.metric}={target.level:g}{group}"
