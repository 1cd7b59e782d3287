"""Field types the schemas share: strict whole numbers, forgiving floats, ascending depths."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from adaptive.scalars import plain

ONE, SEVERAL = "one", "several"  # tags of a union of a section and a list of them
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


class Section(BaseModel):
    """A part of a configuration: unknown keys are faults, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def number(value: Any) -> Any:
    """Turns text such as `1e-3`, which YAML 1.1 leaves as text, into a float."""
    value = plain(value)
    if isinstance(value, bool):
        raise ValueError("expected a number; YAML reads yes, no, on, off, true, false as switches")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


def size(value: Any) -> int | float:
    """Rows (a whole number from 1) or a share of the rows (between 0 and 1)."""
    value = number(value)
    if isinstance(value, int) and value >= 1:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError("expected rows (a whole number from 1) or a share (between 0 and 1)")


def ascending(values: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Refuses numbers that are not strictly ascending."""
    if values is not None and any(b <= a for a, b in itertools.pairwise(values)):
        raise ValueError(f"must ascend without repeats, found {list(values)}")
    return values


def one_or_several(value: Any) -> str:
    """Which of the tags a value has."""
    return SEVERAL if isinstance(value, list | tuple) else ONE


Switch = Annotated[bool, Strict(), BeforeValidator(plain)]
Whole = Annotated[int, Strict(), Field(gt=0), BeforeValidator(plain)]
Count = Annotated[int, Strict(), Field(ge=0), BeforeValidator(plain)]
Float = Annotated[float, BeforeValidator(number)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0)]
Share = Annotated[float, BeforeValidator(number), Field(gt=0, le=1)]  # (0, 1]
PartShare = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]  # [0, 1)
Size = Annotated[int | float, BeforeValidator(size)]
Name = Annotated[str, Field(min_length=1)]
Depths = Annotated[
    tuple[Count, ...] | None, Field(min_length=1), AfterValidator(ascending)
]  # layers before each exit; None = an exit after every layer and at depth 0
Lengths = Annotated[tuple[Whole, ...], Field(min_length=2), AfterValidator(ascending)]
