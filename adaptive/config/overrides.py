"""Command line overrides: `a.b=c` set in a mapping that came from YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from adaptive.config.documents import parse_document
from adaptive.errors import ConfigError


def apply_overrides(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A deep copy of `mapping` with each `path=value` set; values are read as YAML.

    A step of the path is a key; where a list stands, an index or an entry's `name`. Missing and
    null parents become mappings; whether a key is a known one is the schema's business.

    Raises:
        ConfigError: naming every override that cannot be applied.
    """
    result = copy.deepcopy(dict(mapping))
    faults: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        steps = path.strip().split(".")
        if not equals or not all(steps):
            faults.append(f"{override!r}: expected path=value, such as full.epochs=2")
            continue
        try:
            _set(result, steps, parse_document(text, name=f"value of {path.strip()}").value)
        except (ConfigError, LookupError) as error:
            faults.append(f"{override!r}: {error.args[0]}")
    if faults:
        raise ConfigError("overrides cannot be applied", faults)
    return result


def _set(root: dict[str, Any], steps: list[str], value: Any) -> None:
    at: Any = root
    for depth, step in enumerate(steps):
        where = ".".join(steps[:depth]) or "the root"
        key: str | int = step
        if isinstance(at, list):
            key = _index(at, step, where)
        elif not isinstance(at, dict):
            raise LookupError(f"{where} is a single value, nothing can be set below it")
        if depth == len(steps) - 1:
            at[key] = value
            return
        if isinstance(at, dict) and at.get(key) is None:
            at[key] = {}
        at = at[key]


def _index(items: list[Any], step: str, where: str) -> int:
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if step in names:
        return names.index(step)
    if step.isdecimal() and int(step) < len(items):
        return int(step)
    told = ", ".join(str(name) for name in names if name is not None)
    raise LookupError(
        f"{where} is a list of {len(items)}, {step!r} is no index of it"
        + (f" and none of the names in it: {told}" if told else "")
    )
