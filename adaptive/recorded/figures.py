"""What a policy and each model alone did with the same requests, as means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adaptive.policy.costs import Costs
from adaptive.policy.lookup import evaluate
from adaptive.recorded.layouts import Layout
from adaptive.types import OutcomeTable, Policy


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over requests; scores are NaN where they are not known."""

    cost: float
    score: float  # of the requests that are answered
    costs: Mapping[str, float]  # of each model alone, cheapest tier first, the full one last
    scores: Mapping[str, float]
    shares: Mapping[str, float]  # of the requests, by the model that answers them
    unanswered: float  # share of the requests

    @property
    def saving(self) -> float:
        """How many times less the policy costs than the full model alone."""
        return list(self.costs.values())[-1] / max(self.cost, 1e-12)

    @property
    def kept(self) -> float:
        """Its score as a share of the full model's."""
        return self.score / max(list(self.scores.values())[-1], 1e-12)


def figures_of(policy: Policy, layout: Layout, table: OutcomeTable, costs: Costs) -> Figures:
    """What a policy did with a layout's table."""
    spent = costs.of(table)
    did = evaluate(policy, table, spent)
    stage_of = {model: stage for stage, model in enumerate(layout.models, 1)}
    names = list(dict.fromkeys(layout.models))
    by_stage = np.bincount(did.stage[did.answered], minlength=len(layout.stages))
    answers = dict.fromkeys(names, 0)
    for model, count in zip(layout.models, by_stage[1:].tolist(), strict=True):
        answers[model] += count
    scores = table.worth.score.astype(np.float64)
    given = did.score[did.answered]
    return Figures(
        cost=float(did.cost.mean()),
        score=float(given.mean()) if len(given) else float("nan"),
        costs={name: float(spent.segment[:, stage_of[name]].mean()) for name in names},
        scores={name: float(scores[:, stage_of[name]].mean()) for name in names},
        shares={name: count / len(table) for name, count in answers.items()},
        unanswered=float(1.0 - did.answered.mean()),
    )
