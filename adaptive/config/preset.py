"""The preset: how a bundle is served."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from adaptive.config.fields import Count, Name, Section, Whole


class Preset(Section):
    """What a pipeline is opened with."""

    bundle: Name  # folder or hub id
    revision: Name | None = None
    device: Name = "cpu"  # or auto, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_size: Whole = 32
    overflow: Literal["truncate", "error", "windows"] = "truncate"
    stride: Count = 64  # tokens that neighbouring windows share
    policy: Name | None = None  # an entry of the bundle's ladder; None = the chosen one
    errors: Literal["raise", "return"] = "raise"

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        kind, colon, index = device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not index.isdecimal()):
            raise ValueError(f"{device!r} is none of auto, cpu, cuda, cuda:<n>, mps")
        return device
