"""Kinds of small tiers, as recipes name them: the step that makes one, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adaptive.tiers.tier import Tier
from adaptive.training import joint, mid, tiny
from adaptive.training.steps import Figures, Step


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; functions are given the tier's part of a recipe."""

    step: Callable[[Any], Step]
    # raises AdaptiveError where it cannot be made of the full tier, which is untrained
    check: Callable[[Any, Tier], object]
    told: Callable[[Figures], str]  # how it was made, of its step's figures


def _told_distilled(figures: Figures) -> str:
    return f"a {figures['kind']}, distilled from the full tier"


def _told_pruned(figures: Figures) -> str:
    share = figures["work_share"]
    return f"cut from the full tier to {share:.0%} of its work, then distilled back"


def _told_joint(figures: Figures) -> str:
    return "the full tier, trained on together with its exits"


_DISTILLED = Kind(tiny.step, tiny.untrained, _told_distilled)
KINDS: Mapping[str, Kind] = {
    "bag": _DISTILLED,
    "transformer": _DISTILLED,
    "pruned": Kind(mid.step, mid.check, _told_pruned),
    "joint": Kind(joint.step, joint.check, _told_joint),
}
