"""A price list, and what is known of a model's setting, from a YAML file.

gpt-4o-mini:
  input: 0.15          # dollars per million tokens of the prompt
  output: 0.60         # of the answer
  call: 0              # dollars a call
  max_input: 4000      # tokens; with max_tokens the ceiling that a mean cost needs
  max_tokens: 1024
  settings: {model: gpt-4o-mini-2024-07-18, temperature: 0, template: 3f1c9a}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from adaptive.config.documents import read_document
from adaptive.errors import ConfigError
from adaptive.policy.prices import Price

_WHOLE = ("max_input", "max_tokens")


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by model, and what else the list says of how each is called."""

    prices: Mapping[str, Price] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_prices(path: str | Path) -> PriceList:
    """Read a price list.

    Raises:
        ConfigError: with every fault found.
    """
    document = read_document(path)
    return price_list(document.value, str(path))


def price_list(values: Any, name: str = "prices") -> PriceList:
    """The price list that a mapping of models describes.

    Raises:
        ConfigError: with every fault found.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"{name}: expected a mapping of models to prices")
    known = {each.name for each in fields(Price)}
    faults: list[str] = []
    prices: dict[str, Price] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for model, own in values.items():
        if isinstance(own, Price):
            prices[str(model)] = own
            continue
        if not isinstance(own, Mapping):
            faults.append(f"{model}: expected fields such as input and output")
            continue
        told = dict(own)
        setting = told.pop("settings", None) or {}
        if isinstance(setting, Mapping):
            settings[str(model)] = {str(key): each for key, each in setting.items()}
        else:
            faults.append(f"{model}.settings: expected a mapping")
        unknown = sorted(set(map(str, told)) - known)
        faults += [f"{model}.{key}: expected one of {', '.join(sorted(known))}" for key in unknown]
        wrong = [
            key for key in known & set(told) if (told[key] is not None and _bad(key, told[key]))
        ]
        faults += [f"{model}.{key}: expected a number of 0 or more" for key in sorted(wrong)]
        if not unknown and not wrong:
            prices[str(model)] = Price(**told)
    if faults:
        raise ConfigError(f"{name}: {len(faults)} faults", faults)
    return PriceList(prices, settings)


def _bad(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return not 0 <= value < float("inf") or (key in _WHOLE and value != int(value))
