"""Why a text was answered where it was, in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from adaptive.bundle.contents import Bundle
from adaptive.measure.attributions import Attributions, attribute_row
from adaptive.measure.evaluation import stage_name
from adaptive.measure.recording import Record, features_of, record, tabulate
from adaptive.policy.costs import CostTable
from adaptive.policy.lookup import Lookup, is_bare, last_exits
from adaptive.routers.features import STATISTICS, token_statistics
from adaptive.types import ALWAYS, OutcomeTable, Policy, Tokens

Part = Literal["sure", "last", "unsure", "off", "look", "skipped"]
_TOLD: Mapping[Part, str] = {
    "sure": "reaches {threshold}; answered",
    "last": "answers all that get here",
    "unsure": "stays below {threshold}; went on",
    "off": "switched off; went on",
    "look": "looked first; the text entered further on",
}


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage as the text passed it, or would have."""

    name: str
    label: str
    probability: float | None  # of the label, where it has one
    reliability: float  # that the answer is as good as the full tier's
    threshold: float | None  # None = switched off
    part: Part  # sure, last: answered here; look: its opinion alone; skipped: not run
    features: Mapping[str, float]

    @property
    def ran(self) -> bool:
        """Whether the stage spoke."""
        return self.part != "skipped"

    @property
    def answered(self) -> bool:
        """Whether the answer is this stage's."""
        return self.part in ("sure", "last")

    def __str__(self) -> str:
        said, limit = _apart(self.reliability, self.threshold)
        told = _TOLD[self.part].format(threshold=limit) if self.ran else "never ran"
        share = _with(self.probability)
        return f"{self.name}: {self.label!r}{share}, reliability {said}; {told}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A text's way through the cascade. `str()` tells it in words."""

    tokens: int
    truncated: bool
    entered: str  # tier
    risk: Mapping[str, float] | None  # by tier, of an answer worse than the full tier's
    price: Mapping[str, float] | None  # by tier of the path, the least is entered; None unrouted
    statistics: Mapping[str, float]  # what a router sees of the tokens
    stages: tuple[StageView, ...]
    label: str | None  # None where nobody answers
    score: float | None  # the answer's probability, where it has one
    cost: float
    unit: str
    attributions: Attributions = ()  # what each token did for the answer, see `attribute`
    evidence: str = "nats"  # their unit

    def __repr__(self) -> str:
        """The same as `str()`: it is what a notebook shows."""
        return str(self)

    def __str__(self) -> str:
        cut = " (cut)" if self.truncated else ""
        lines = [f"{self.tokens} tokens{cut}, entered at {self.entered}{self._why_entered()}"]
        lines += [f"  {stage}" for stage in self.stages if stage.ran]
        answer = "no answer" if self.label is None else f"answer {self.label!r}"
        lines.append(f"{answer}{_with(self.score)} at a cost of {self.cost:.3g} {self.unit}")
        if self.attributions:
            told = " ".join(f"{token} {score:+.2f}" for token, score in self.attributions)
            lines.append(f"what each token did for it, in {self.evidence}: {told}")
        return "\n".join(lines)

    def _why_entered(self) -> str:
        if self.price is None or self.risk is None:
            return ", where the policy starts; no router decides"
        seen = ", ".join(f"{name.replace('_', ' ')} {x:.2f}" for name, x in self.statistics.items())
        tiers = ", ".join(
            f"{tier} {price:.3g} (risk {self.risk[tier]:.0%})" for tier, price in self.price.items()
        )
        return f" by the router\n  it saw {seen}\n  its price of each tier, least wins: {tiers}"


def explain(
    bundle: Bundle, policy: Policy, costs: CostTable, tokens: Tokens, attributions: bool = False
) -> Explanation:
    """Run every stage on one token row, and say what the policy made of it.

    Raises:
        ImportError: attributions are wanted and captum is not installed.
    """
    kept = record(bundle.tiers, tokens, 1)
    labels, task = bundle.task.cells.unknown(1, len(bundle.labels)), bundle.task
    table = tabulate(kept, bundle.reliability, labels, bundle.router, bundle.log_frequency, task)
    result = Lookup.of(table, costs.at(tokens.lengths)).evaluate(policy)
    answered, entry = int(result.stage[0]), int(result.entry[0])
    label = int(kept.logits[answered][0].argmax())
    stages = _views(bundle, policy, kept, table, entry, answered)
    names = [tier.name for tier in bundle.tiers]
    statistics = token_statistics(tokens, bundle.log_frequency)[0].tolist()
    routed = policy.risk_weight is not None
    return Explanation(
        tokens=int(tokens.lengths[0]),
        truncated=bool(tokens.truncated[0]),
        entered=names[entry],
        risk=dict(zip(names, table.risk[0].tolist(), strict=True)) if routed else None,
        price=_prices(policy, table, names),
        statistics=dict(zip(STATISTICS, statistics, strict=True)),
        stages=stages,
        label=stages[answered].label if result.answered[0] else None,
        score=stages[answered].probability,
        cost=float(result.cost[0]),
        unit=costs.unit,
        attributions=attribute_row(bundle, tokens, answered, label) if attributions else (),
        evidence=task.evidence_unit,
    )


def _prices(policy: Policy, table: OutcomeTable, names: list[str]) -> dict[str, float] | None:
    """What the entry rule compares."""
    weight = policy.risk_weight
    if weight is None:
        return None
    return {names[t]: policy.entry_cost[t] + weight * float(table.risk[0, t]) for t in policy.path}


@torch.inference_mode()
def _views(
    bundle: Bundle, policy: Policy, kept: Record, table: OutcomeTable, entry: int, answered: int
) -> tuple[StageView, ...]:
    task = bundle.task
    features = features_of(kept, bundle.reliability, task)
    views = []
    for k in range(len(bundle.stages)):
        scores = task.scores(bundle.reliability.temper(k, kept.logits[k]))
        label, probability = task.told(scores[0], bundle.labels)
        views.append(
            StageView(
                name=stage_name(bundle, k),
                label=label,
                probability=probability,
                reliability=float(table.reliability[0, k]),
                threshold=policy.thresholds[k] if policy.on(k) else None,
                part=_part(bundle, policy, k, entry, answered),
                features=dict(zip(task.features, features[k][0].tolist(), strict=True)),
            )
        )
    return tuple(views)


def _part(bundle: Bundle, policy: Policy, stage: int, entry: int, answered: int) -> Part:
    """What a stage did for a text that entered and was answered there, as the hot loop has it."""
    last = last_exits(policy, bundle.stages)
    tier = bundle.stages[stage].tier
    if stage == answered:
        final = stage == last[policy.path[-1]]
        return "last" if final or policy.thresholds[stage] == ALWAYS else "sure"
    if is_bare(policy) or stage > answered:
        return "skipped"
    if tier < entry or tier not in last:
        return "look" if stage == 0 else "skipped"
    if stage > last[tier]:
        return "skipped"
    return "unsure" if policy.on(stage) else "off"


def _with(probability: float | None) -> str:
    return "" if probability is None else f" with {probability:.0%}"


def _apart(value: float, limit: float | None) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart."""
    if limit is None:
        return f"{value:.3f}", ""
    for digits in range(3, 8):
        pair = (f"{value:.{digits}f}", f"{limit:.{digits}f}")
        if pair[0] != pair[1]:
            break
    return pair
