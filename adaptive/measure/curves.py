"""Accuracy against cost: each tier alone, the family of policies, the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive.bundle.contents import Bundle
from adaptive.measure.evaluation import stage_name
from adaptive.outputs import replacing
from adaptive.policy.costs import CostTable
from adaptive.policy.lookup import Lookup, single_stage, tier_alone
from adaptive.policy.search import shared_thresholds
from adaptive.types import OutcomeTable, Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 40


@dataclass(frozen=True, slots=True)
class Point:
    """One policy on the plane."""

    kind: str  # tier | exit | family | ladder | chosen
    name: str
    cost: float  # mean a text
    quality: float  # accuracy; agreement with the full tier where there are no labels
    abstained: float = 0.0  # share of texts that nobody answers; quality is of the others


@dataclass(frozen=True, slots=True)
class Curve:
    """All points of a bundle on some texts."""

    unit: str
    quality: str  # accuracy, or what `Task.quality` calls it; agreement without labels
    points: tuple[Point, ...]

    def __repr__(self) -> str:
        """What is drawn against what, and how many points there are."""
        return f"<Curve of {self.quality} against {self.unit}: {len(self.points)} points>"

    def of(self, kind: str) -> list[Point]:
        """The points of one kind, cheapest first."""
        return sorted((p for p in self.points if p.kind == kind), key=lambda p: p.cost)

    def at(self, target: float) -> Point:
        """The cheapest policy that keeps this share of the full tier's quality, such as 0.99.

        It is a reading of these rows, which promises nothing for others.

        Raises:
            ValueError: no policy on the curve keeps it.
        """
        full = max(self.of("tier"), key=lambda each: each.cost)
        kept = [p for p in self.points if p.quality >= target * full.quality and not p.abstained]
        if not kept:
            best = max(p.quality for p in self.points) / full.quality
            raise ValueError(
                f"no policy keeps {target:.2%} of the full tier's, the best {best:.2%}"
            )
        return min(kept, key=lambda each: each.cost)

    def _repr_html_(self) -> str:
        """As notebooks show it: a small picture, and each tier and the chosen policy in numbers."""
        from adaptive.display import card, scatter

        costs = np.log([max(p.cost, 1e-12) for p in self.points])
        quality = np.array([p.quality for p in self.points])
        x = (costs - costs.min()) / max(float(np.ptp(costs)), 1e-12)
        y = (quality - quality.min()) / max(float(np.ptp(quality)), 1e-12)
        kinds = {"tier": "square", "chosen": "star"}
        drawn = [kinds.get(p.kind, "dot") for p in self.points]
        rows = [
            (p.name, f"{self.quality} {p.quality:.2%}, {p.cost:.4g} {self.unit} a text")
            for p in (*self.of("tier"), *self.of("chosen"))
        ]
        picture = scatter(zip(x.tolist(), y.tolist(), drawn, strict=True))
        return card(f"{self.quality} against {self.unit} a text (logarithm)", rows, picture)

    def slider(self, target: float = 0.99) -> Any:
        """The picture with a slider over the target, in a notebook (`adaptive.measure.sliders`)."""
        from adaptive.measure.sliders import slider

        return slider(self, target)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The picture, see `plot`."""
        return plot(self, path)

    def to_frame(self) -> Any:
        """All points as a pandas frame, one a row.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame([asdict(each) for each in self.points])


def curve(bundle: Bundle, policy: Policy, table: OutcomeTable, costs: CostTable) -> Curve:
    """Each tier and exit alone, one shared threshold swept, the ladder, the chosen policy.

    Args:
        table: outcomes of the texts to draw, e.g. `adaptive.measure.recording.outcomes`.
        costs: `bundle.costs` for milliseconds, `adaptive.measure.work.work_of` for layers x tokens.
    """
    lookup = Lookup.of(table, costs.at(table.tokens))
    known = table.worth.known

    def point(kind: str, name: str, each: Policy) -> Point:
        result = lookup.evaluate(each)
        answered, good = result.answered, result.score if known else result.alike
        quality = float(good[answered].mean()) if answered.any() else 0.0
        return Point(kind, name, float(result.cost.mean()), quality, float(1.0 - answered.mean()))

    stages, tiers = bundle.stages, range(len(bundle.tiers))
    points = [point("tier", bundle.tiers[t].name, tier_alone(stages, t)) for t in tiers]
    points += [
        point("exit", stage_name(bundle, k), single_stage(stages, k)) for k in range(len(stages))
    ]
    levels = np.unique(np.quantile(table.reliability, np.linspace(0, 1, POINTS)))
    points += [
        point("family", f"threshold {level:.3f}", shared_thresholds(stages, list(tiers), level))
        for level in levels.tolist()
    ]
    points += [point("ladder", entry.name, entry.policy) for entry in bundle.ladder]
    points.append(point("chosen", "chosen policy", policy))
    return Curve(costs.unit, bundle.task.quality if known else "agreement", tuple(points))


def plot(found: Curve, path: str | Path | None = None) -> Figure:
    """Draw a curve; written as PNG or SVG, by the suffix, where a path is given.

    A file that is there is replaced once the new one is whole.

    Raises:
        ImportError: matplotlib is not installed (the extra `plots`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    family = _front(found.of("family"))
    axes.plot(*_axes(family), color="tab:blue", label="one shared threshold", zorder=1)
    axes.scatter(*_axes(found.of("exit")), s=12, color="0.6", label="one exit alone", zorder=2)
    if ladder := found.of("ladder"):
        axes.scatter(*_axes(ladder), s=14, color="tab:green", label="searched policies", zorder=3)
    tiers = found.of("tier")
    axes.scatter(*_axes(tiers), marker="s", color="black", label="one tier alone", zorder=4)
    for tier in tiers:
        axes.annotate(tier.name, (tier.cost, tier.quality), (5, -11), textcoords="offset points")
    chosen = found.of("chosen")
    left = f", {chosen[0].abstained:.1%} left to nobody" if chosen[0].abstained else ""
    told = f"chosen{left}"
    axes.scatter(*_axes(chosen), marker="*", s=180, color="tab:red", label=told, zorder=5)
    axes.set_xscale("log")
    axes.set_xlabel(f"mean cost a text, {found.unit}")
    axes.set_ylabel(found.quality)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    if path is not None:
        with replacing(Path(path)) as part:
            figure.savefig(part, dpi=150)
    return figure


def _axes(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [p.cost for p in points], [p.quality for p in points]


def _front(points: Sequence[Point]) -> list[Point]:
    """Points that no cheaper one matches."""
    kept: list[Point] = []
    for each in points:
        if not kept or each.quality > kept[-1].quality:
            kept.append(each)
    return kept
