"""A number a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.cells import Cells, Labels, NumberCells
from adaptive.exits.measures import History, cosine
from adaptive.tasks.base import Floats, Function, Task, function_called, graded_worth
from adaptive.types import Classes, Worth

# Distances are shares of the scale.
FEATURES: tuple[str, ...] = (
    "value",  # place on the scale, 0 to 1
    "value_squared",  # the ends of a scale are surer, or less sure, than its middle
    "change",  # distance from the tier's previous exit; 0 at its first
    "log_change",
    "agrees_previous",  # within the tolerance
    "streak",  # length of the run of exits that agree, each with the one before it
    "saturation",  # cosine of the pooled states of this exit and the previous one
    "norm",  # log of the pooled state's length
    "anchor_change",  # distance from the cascade's first exit
    "agrees_anchor",
    "log_length",
)
_LEAST = 1e-3  # of the scale: distances below it count as it in logarithms


@dataclass(frozen=True, slots=True)
class Regression:
    """Answers and scores are numbers: float32 [n] and [n, 1], on the labels' own scale.

    The loss is the distance from the label as a share of the scale; what lies beyond an end of the
    scale counts as that end. Answers are the same that lie within the tolerance of each other.
    """

    problem_type: ClassVar[str] = "regression"
    exclusive: ClassVar[bool] = False
    quality: ClassVar[str] = "closeness to the label"
    metric: ClassVar[str] = "mae"
    cascade: ClassVar[str] = "models that give a text a number"
    whole: ClassVar[bool] = False
    evidence_unit: ClassVar[str] = "the unit of the value"
    features: ClassVar[tuple[str, ...]] = FEATURES

    scale: tuple[float, float]  # the least and the greatest label
    tolerance: float  # in the unit of the labels
    name: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        """A list, as JSON has it, becomes a tuple."""
        object.__setattr__(self, "scale", tuple(map(float, self.scale)))
        if len(self.scale) != 2 or not -np.inf < self.scale[0] < self.scale[1] < np.inf:
            raise ValueError(f"scale is {list(self.scale)}; expected two numbers, ascending")
        if not 0.0 <= self.tolerance < self.width:
            raise ValueError(
                f"tolerance is {self.tolerance:g}; expected from 0 to less than the scale's width"
            )

    @property
    def width(self) -> float:
        """Of the scale."""
        return self.scale[1] - self.scale[0]

    @property
    def meaning(self) -> str | None:
        """Of the loss and the tolerance."""
        low, high = self.scale
        return (
            f"A score is 1 - |answer - label| / {self.width:g}, of labels from {low:g} to "
            f"{high:g}; an answer beyond an end of that scale counts as that end. Answers are "
            f"alike within {self.tolerance:g} of each other."
        )

    @property
    def cells(self) -> Cells:
        """Numbers on the scale."""
        return NumberCells(*self.scale)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The values as they are."""
        return logits

    def measure(
        self,
        logits: torch.Tensor,
        pooled: torch.Tensor,
        history: History,
        anchor: torch.Tensor | None,
        log_length: torch.Tensor,
    ) -> tuple[torch.Tensor, History]:
        """See `FEATURES`; the history holds the value in place of a class."""
        values = logits.float()
        later = self._later(values, history, pooled)
        place = ((values[:, 0] - self.scale[0]) / self.width).clamp(-1.0, 2.0)
        change = torch.zeros_like(place)
        if history.pooled is not None:
            change = self._apart(values, history.prediction)
        first = torch.zeros_like(place) if anchor is None else self._apart(values, anchor)
        columns = [
            place,
            place.square(),
            change,
            change.clamp(min=_LEAST).log(),
            later.streak.clamp(max=1),
            later.streak,
            cosine(pooled, history.pooled),
            pooled.float().norm(dim=1).clamp(min=1e-6).log(),
            first,
            (first <= self.tolerance / self.width).float(),
            log_length,
        ]
        return torch.stack(columns, 1), later

    def _apart(self, values: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Distances [b] of values [b, 1], 1 at most."""
        return ((values - others).abs()[:, 0] / self.width).clamp(max=1.0)

    def remember(
        self,
        logits: torch.Tensor,
        temper: Callable[[torch.Tensor], torch.Tensor],
        history: History,
        pooled: torch.Tensor,
    ) -> History:
        """The value, and for how many exits it has hardly moved."""
        return self._later(temper(logits), history, pooled)

    def _later(self, values: torch.Tensor, history: History, pooled: torch.Tensor) -> History:
        streak = torch.zeros(len(values), device=values.device)
        if history.pooled is not None:
            near = (values - history.prediction).abs()[:, 0] <= self.tolerance
            streak = (history.streak + 1) * near
        return History(values, streak, pooled)

    def distribution(self, scores: torch.Tensor) -> torch.Tensor:
        """Two equal shares: a number tells nothing of how sure it is. Routers read the text."""
        return torch.full((len(scores), 2), 0.5, device=scores.device)

    def answers(self, scores: torch.Tensor) -> Labels:
        """The values, [n]."""
        found: NDArray[np.float32] = scores[:, 0].float().cpu().numpy()
        return found

    def losses(self, answers: Labels, labels: Labels) -> Floats:
        """|answer - label| as a share of the scale."""
        held, true = (np.clip(each.astype(np.float64), *self.scale) for each in (answers, labels))
        return np.abs(held - true) / self.width

    def same(self, answers: Labels, others: Labels) -> NDArray[np.bool_]:
        """Whether they lie within the tolerance of each other."""
        apart = np.abs(answers.astype(np.float64) - others.astype(np.float64))
        found: NDArray[np.bool_] = apart <= self.tolerance
        return found

    def worth(
        self, answers: Sequence[Labels], labels: Labels, reference: Labels | None
    ) -> tuple[Worth, Classes | None]:
        """By the loss."""
        return graded_worth(self, answers, labels, reference), None

    def hard_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The squared error, in units of half the scale."""
        return ((logits[:, 0] - labels.nan_to_num()) * (2.0 / self.width)).square()

    def soft_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """The same against the teacher's value; a temperature changes nothing."""
        return self.hard_loss(logits, teacher[:, 0])

    def drawn(self, logits: torch.Tensor) -> torch.Tensor:
        """Around the value, by a tenth of the scale."""
        return logits[:, 0] + torch.randn_like(logits[:, 0]) * (0.1 * self.width)

    def temperature(self, logits: NDArray[Any], labels: Labels, full: NDArray[Any]) -> float:
        """None: values are not divided."""
        return 1.0

    def fitted(self, full: NDArray[Any], labels: Labels) -> Task:
        """Nothing is."""
        return self

    def function(self, name: str | None) -> Function | None:
        """Nothing but "sigmoid", which transformers applies to a model with one output.

        It does so where a checkpoint does not say that it is a regression.
        """
        return function_called(name, _FUNCTIONS, {"softmax": ", which is 1 for one value"})

    def beside(
        self, scores: NDArray[np.float32] | None, labels: Sequence[str]
    ) -> list[dict[str, Any]] | None:
        """Nothing."""
        return None

    def told(self, scores: torch.Tensor, labels: Sequence[str]) -> tuple[str, float | None]:
        """The value."""
        return f"{float(scores[0]):.4g}", None

    def evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """The value."""
        return logits

    def to_json(self) -> dict[str, Any]:
        """Its scale and tolerance."""
        return {"scale": list(self.scale), "tolerance": self.tolerance}


def _sigmoid(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1.0 / (1.0 + np.exp(-scores.astype(np.float64)))).astype(np.float32)


_FUNCTIONS: dict[str, Function | None] = {"none": None, "sigmoid": _sigmoid}
