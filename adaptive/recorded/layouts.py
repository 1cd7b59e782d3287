"""How recorded models become the tiers and stages of a cascade, and their outcomes a table.

Tier 0 is the prompt alone: its one stage never answers and costs nothing; it is there so that the
entry rule has something to read. Every further tier is a *chain*: models that are called in turn,
the first one always first, each a stage. So a stage of a chain knows the answers before it, such as
whether they agree, and still does not depend on the policy. The last tier is the full model alone.

Of three models two layouts are searched: `a > b, full` as a chain, where b sees a's answer, and
`a, b, full` each by itself, where a request may enter at b without a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive.policy.worth import graded
from adaptive.recorded.judging import Chain, Judges
from adaptive.recorded.outcomes import Outcomes
from adaptive.types import Groups, OutcomeTable, Stage, Usage

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The tiers behind the prompt's, cheapest first; the last is the full model alone."""

    chains: tuple[Chain, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The prompt's, then each model of each chain."""
        inner = [
            Stage(tier, place, 0)
            for tier, chain in enumerate(self.chains, 1)
            for place in range(len(chain))
        ]
        return (Stage(0, 0, 0), *inner)

    @property
    def models(self) -> tuple[str, ...]:
        """The model of each stage behind the first, [k - 1]."""
        return tuple(model for chain in self.chains for model in chain)

    @property
    def prefixes(self) -> tuple[Chain, ...]:
        """The models called up to each stage behind the first, [k - 1]."""
        return tuple(chain[: end + 1] for chain in self.chains for end in range(len(chain)))


def layouts(models: Sequence[str]) -> list[Layout]:
    """The layouts of models, cheapest first and the full one last, that are worth searching."""
    *small, full = models
    alone = Layout((*((model,) for model in small), (full,)))
    return [alone] if len(small) < 2 else [Layout((tuple(small), (full,))), alone]


def judged(layouts: Sequence[Layout]) -> list[Chain]:
    """The prefixes of chains whose last answer has to be judged; the full model's never has."""
    found = dict.fromkeys(prefix for each in layouts for prefix in each.prefixes)
    full = layouts[0].chains[-1]
    return [prefix for prefix in found if prefix != full]


def table_of(
    layout: Layout,
    outcomes: Outcomes,
    judges: Judges,
    *,
    alike: Mapping[str, Floats] | None = None,
    costs: Mapping[str, Mapping[str, Floats]] | None = None,
    groups: Mapping[str, Groups] | None = None,
) -> OutcomeTable:
    """The outcome table of a layout, in which any policy is a look-up.

    Args:
        alike: [n] likeness of each model's answer to the full model's, in [0, 1]. None: by the
            distance of their scores.
        costs: [n] of each model, by field of `adaptive.types.Usage`.
    """
    size, models = len(outcomes), layout.models
    places = [outcomes.models.index(model) for model in models]
    score = outcomes.score[:, places]
    nothing = np.where(np.isnan(score[:, :1]), np.nan, 0.0)
    known = None
    if alike is not None:
        known = np.column_stack([np.zeros(size), *(alike[model] for model in models)])
    worth = graded(np.hstack([nothing, score]), known)
    features = judges.prompts(outcomes)
    reliability = np.zeros((size, len(models) + 1), dtype=np.float32)
    for stage, prefix in enumerate(layout.prefixes, 1):
        if prefix in judges.after:
            reliability[:, stage] = judges.reliability(outcomes, prefix, features)
        else:
            reliability[:, stage] = 0.5  # the full model is as good as itself
    before = judges.before(outcomes, features)
    risk = np.ones((size, len(layout.chains) + 1), dtype=np.float32)
    for tier, chain in enumerate(layout.chains, 1):
        good = [before[model] if model in before else np.full(size, 0.5) for model in chain]
        risk[:, tier] = 1.0 - np.mean(good, axis=0)
    usage = {
        name: np.column_stack([np.zeros(size), *(by_model[model] for model in models)])
        for name, by_model in (costs or {}).items()
    }
    return OutcomeTable(
        stages=layout.stages,
        worth=worth,
        reliability=reliability,
        risk=risk,
        tokens=np.zeros(size, dtype=np.int64),
        groups=dict(groups or {}),
        usage=Usage(**usage) if usage else None,
    )
