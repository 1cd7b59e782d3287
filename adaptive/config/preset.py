"""The preset: how a bundle is served."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from adaptive.config.fields import Count, Float, Name, Section, Whole
from adaptive.config.targets import Bound, Level, MetricName, read_target
from adaptive.types import Target


class TargetChoice(Section):
    """A promise of the bundle's certificate, see `adaptive.types.Target`."""

    metric: MetricName
    level: Level
    confidence: Annotated[Float, Field(gt=0, lt=1)] | None = None  # None = the bundle's
    group: Name | None = None
    bound: Bound = None


def _fields(value: Any) -> Any:
    """A target as a mapping, whichever way it was given."""
    if isinstance(value, str):
        return read_target(value)
    return asdict(value) if isinstance(value, Target) else value


class Preset(Section):
    """What a pipeline is opened with."""

    bundle: Name  # folder or hub id
    revision: Name | None = None
    device: Name = "cpu"  # or auto, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_size: Whole = 32
    overflow: Literal["truncate", "error", "windows"] = "truncate"
    stride: Count = 64  # tokens that neighbouring windows share
    target: Annotated[TargetChoice | None, BeforeValidator(_fields)] = None  # None = the main one
    policy: Name | None = None  # an entry of the bundle's ladder; None = the chosen one
    errors: Literal["raise", "return"] = "raise"

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        kind, colon, index = device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not index.isdecimal()):
            raise ValueError(f"{device!r} is none of auto, cpu, cuda, cuda:<n>, mps")
        return device
