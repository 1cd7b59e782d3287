"""Why a text was answered where it was, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from adaptive.bundle.contents import Bundle
from adaptive.costs import CostTable
from adaptive.evaluation import stage_name
from adaptive.exits.measures import FEATURES
from adaptive.policy import Lookup, choose_entry, last_exits
from adaptive.recording import Record, features_of, record, tabulate
from adaptive.routers.features import STATISTICS, token_statistics
from adaptive.types import OutcomeTable, Policy, Tokens


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage as the text would pass it."""

    name: str
    label: str
    probability: float
    reliability: float
    threshold: float | None  # None = switched off
    ran: bool
    answered: bool
    features: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A text's way through the cascade. `str()` tells it in words."""

    tokens: int
    entered: str  # tier
    risk: dict[str, float] | None  # the router's, by tier; None where no router decides
    statistics: dict[str, float]  # what the router sees of the tokens
    stages: tuple[StageView, ...]
    label: str
    cost: float
    unit: str

    def __str__(self) -> str:
        lines = [f"{self.tokens} tokens, entered at {self.entered}" + self._why_entered()]
        for stage in self.stages:
            if stage.ran:
                lines.append(f"  {stage.name}: {_told(stage)}")
        lines.append(f"answer {self.label!r} at a cost of {self.cost:.3g} {self.unit}")
        return "\n".join(lines)

    def _why_entered(self) -> str:
        if self.risk is None:
            return ", where the policy starts; no router decides"
        risks = ", ".join(f"{tier} {risk:.0%}" for tier, risk in self.risk.items())
        return f" by the router, whose risk of a worse answer is: {risks}"


def explain(bundle: Bundle, policy: Policy, costs: CostTable, tokens: Tokens) -> Explanation:
    """Run every stage on one token row, and say what the policy made of it."""
    kept = record(bundle.tiers, tokens, bundle.pad_id, 1)
    labels = np.array([-1], dtype=np.int32)
    table = tabulate(kept, bundle.reliability, labels, bundle.router, bundle.log_frequency)
    result = Lookup.of(table, costs.at(tokens.lengths)).evaluate(policy)
    answered, entry = int(result.stage[0]), int(choose_entry(policy, table.risk)[0])
    names = [tier.name for tier in bundle.tiers]
    statistics = token_statistics(tokens, bundle.log_frequency)[0].tolist()
    routed = policy.risk_weight is not None
    return Explanation(
        tokens=int(tokens.lengths[0]),
        entered=names[entry],
        risk=dict(zip(names, table.risk[0].tolist(), strict=True)) if routed else None,
        statistics=dict(zip(STATISTICS, statistics, strict=True)),
        stages=_views(bundle, policy, kept, table, entry, answered),
        label=bundle.labels[int(result.prediction[0])],
        cost=float(result.cost[0]),
        unit=costs.unit,
    )


@torch.inference_mode()
def _views(
    bundle: Bundle, policy: Policy, kept: Record, table: OutcomeTable, entry: int, answered: int
) -> tuple[StageView, ...]:
    last = last_exits(policy, table.stages)
    features = features_of(kept, bundle.reliability)
    views = []
    for k, stage in enumerate(bundle.stages):
        on_way = entry <= stage.tier and k <= last.get(stage.tier, -1)
        tempered = bundle.reliability.temper(k, kept.logits[k]).softmax(1)
        views.append(
            StageView(
                name=stage_name(bundle, k),
                label=bundle.labels[int(table.predictions[0, k])],
                probability=float(tempered.max()),
                reliability=float(table.reliability[0, k]),
                threshold=policy.thresholds[k] if policy.on(k) else None,
                ran=(on_way and k <= answered),
                answered=k == answered,
                features=dict(zip(FEATURES, features[k][0].tolist(), strict=True)),
            )
        )
    return tuple(views)


def _told(stage: StageView) -> str:
    said = f"{stage.label!r} with {stage.probability:.0%}, reliability {stage.reliability:.3f}"
    if stage.answered and (stage.threshold is None or stage.reliability < stage.threshold):
        return f"{said}; the last stage of the path answers what is left"
    if stage.threshold is None:
        return f"{said}; switched off, went on"
    verb = "reaches" if stage.answered else "stays below"
    return f"{said} {verb} {stage.threshold:.3f}; " + ("answered" if stage.answered else "went on")
