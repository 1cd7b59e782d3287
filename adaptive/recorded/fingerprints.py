"""What a black box shows of itself, and whether a certificate covers one that shows otherwise.

Of a model behind an interface no file can be hashed. What can be kept is what was asked for, what
came back, how it was sampled, and when: a certificate is about the models as they were then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from adaptive.policy.prices import Price
from adaptive.recorded.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """How one model was called, and what answered."""

    asked: str  # the model's name in the request
    returned: tuple[str, ...] = ()  # names that came back, ascending; none: not recorded
    settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # sampling, template's hash, max_tokens
    price: Mapping[str, Any] = field(default_factory=dict)
    dates: tuple[str, ...] = ()  # first and last

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Fingerprint:
        """The one of a mapping; fields that it lacks are empty.

        Raises:
            KeyError: it does not say which model is asked for.
            TypeError: a field that a fingerprint does not have.
        """
        told = dict(values)
        returned, dates = (tuple(told.pop(name, ())) for name in ("returned", "dates"))
        return cls(told.pop("asked"), returned=returned, dates=dates, **told)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether a certificate covers a model as it is now."""

    covered: bool
    reasons: tuple[str, ...] = ()  # why not

    @property
    def verdict(self) -> str:
        """COVERED or STALE."""
        return "COVERED" if self.covered else "STALE"

    def __bool__(self) -> bool:
        return self.covered


def fingerprint_of(
    outcomes: Outcomes, model: str, settings: Mapping[str, Any], price: Price | None
) -> Fingerprint:
    """The fingerprint of recorded answers of a model."""
    names = outcomes.words.get("model")
    place = outcomes.models.index(model)
    returned = () if names is None else sorted({str(x) for x in names[:, place] if x is not None})
    dates = outcomes.requests.get("date")
    found = [] if dates is None else sorted(str(each) for each in dates if each is not None)
    told = {key: each for key, each in settings.items() if key != "model"}
    if price is not None and price.max_tokens is not None:
        told["max_tokens"] = price.max_tokens
    return Fingerprint(
        asked=str(settings.get("model", model)),
        returned=tuple(returned),
        settings=told,
        price={} if price is None else asdict(price),
        dates=(found[0], found[-1]) if found else (),
    )


def compare(known: Fingerprint, now: Fingerprint, *, priced: bool) -> Coverage:
    """Whether what answers now is what was recorded.

    Args:
        priced: whether what is promised depends on prices.
    """
    reasons = []
    if now.asked != known.asked:
        reasons.append("another model is asked for")
    if (unseen := set(now.returned) - set(known.returned)) and known.returned:
        reasons.append(f"{len(unseen)} of the names that came back were not recorded")
    for key in sorted(set(known.settings) | set(now.settings)):
        if known.settings.get(key) != now.settings.get(key):
            reasons.append(f"the setting {key} is another")
    if priced and dict(now.price) != dict(known.price):
        reasons.append("the price is another")
    return Coverage(not reasons, tuple(reasons))
