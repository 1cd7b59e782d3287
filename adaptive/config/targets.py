"""A target as people write it: its fields, and `agreement=0.02` or `accuracy_drop=0.01@region`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from adaptive.config.fields import Float
from adaptive.errors import ConfigError
from adaptive.policy.metrics import METRICS, target_fault
from adaptive.types import Target, confidence_fault, metric_now


def _metric(name: str) -> str:
    known = name in METRICS
    _refuse(None if known else f"no metric is called {name!r}; known: {', '.join(METRICS)}")
    return name


def _level(level: float, info: ValidationInfo) -> float:
    name = info.data.get("metric")
    _refuse(METRICS[name].level_fault(name, level) if name else None)
    return level


def _bound(bound: float | None, info: ValidationInfo) -> float | None:
    name = info.data.get("metric")
    _refuse(METRICS[name].bound_fault(name, bound) if name else None)
    return bound


def _confidence(confidence: float) -> float:
    _refuse(confidence_fault(confidence))
    return confidence


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise ValueError(fault)


MetricName = Annotated[str, BeforeValidator(metric_now), AfterValidator(_metric)]
# of sections in which a `metric` stands before them
Level = Annotated[Float, AfterValidator(_level)]
Confidence = Annotated[Float, AfterValidator(_confidence)]
Bound = Annotated[Float | None, AfterValidator(_bound), Field(validate_default=True)]


def read_target(text: str) -> dict[str, Any]:
    """The fields of `metric=level`, of `text_cost=level:bound`, and with `@column` of a target for
    each group.

    Raises:
        ConfigError: no such metric, or a level or bound that it cannot have.
    """
    name, _, rest = text.partition("=")
    name = metric_now(name)
    numbers, at, group = rest.partition("@")
    if name not in METRICS:
        raise ConfigError(
            f"target {text!r}: expected one of {', '.join(METRICS)}, then = and a level"
        )
    try:
        level, *bound = map(float, numbers.split(":", 1))
    except ValueError:
        raise ConfigError(f"target {text!r}: {numbers!r} is no number") from None
    if at and not group:
        raise ConfigError(f"target {text!r}: expected a column of the data behind @")
    fields: dict[str, Any] = {"metric": name, "level": level, "group": group or None}
    fields["bound"] = bound[0] if bound else None
    if fault := target_fault(Target(**fields)):
        raise ConfigError(f"target {text!r}: {fault}")
    return fields


def show_target(target: Target) -> str:
    """A target in that form; its confidence is left out."""
    bound = "" if target.bound is None else f":{target.bound:g}"
    group = "" if target.group is None else f"@{target.group}"
    return f"{target.metric}={target.level:g}{bound}{group}"
