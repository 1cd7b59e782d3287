"""One class a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptive.cells import CLASSES, Cells, Labels, known_labels
from adaptive.exits.measures import FEATURES, History, measure, remember
from adaptive.policy.worth import worth_of
from adaptive.tasks.base import Floats, Function, Task, function_called
from adaptive.types import Classes, Worth


@dataclass(frozen=True, slots=True)
class SingleLabel:
    """Answers are classes, int32 [n]; scores are probabilities, which sum to 1."""

    cells: ClassVar[Cells] = CLASSES
    features: ClassVar[tuple[str, ...]] = FEATURES
    name: ClassVar[str] = "single_label"
    problem_type: ClassVar[str] = "single_label_classification"
    exclusive: ClassVar[bool] = True
    quality: ClassVar[str] = "accuracy"
    metric: ClassVar[str] = "accuracy"
    meaning: ClassVar[str | None] = None
    cascade: ClassVar[str] = "text classifiers"
    whole: ClassVar[bool] = False
    evidence_unit: ClassVar[str] = "nats"

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Their softmax."""
        return logits.softmax(1)

    def measure(
        self,
        logits: torch.Tensor,
        pooled: torch.Tensor,
        history: History,
        anchor: torch.Tensor | None,
        log_length: torch.Tensor,
    ) -> tuple[torch.Tensor, History]:
        """See `adaptive.exits.measures.measure`."""
        return measure(logits, pooled, history, anchor, log_length)

    def remember(
        self,
        logits: torch.Tensor,
        temper: Callable[[torch.Tensor], torch.Tensor],
        history: History,
        pooled: torch.Tensor,
    ) -> History:
        """The class, which no temperature changes."""
        return History(*remember(logits, history.prediction, history.streak), pooled)

    def distribution(self, scores: torch.Tensor) -> torch.Tensor:
        """The probabilities."""
        return scores

    def answers(self, scores: torch.Tensor) -> Labels:
        """The likeliest of each row, [n]."""
        found: NDArray[np.int32] = scores.argmax(1).int().cpu().numpy()
        return found

    def losses(self, answers: Labels, labels: Labels) -> Floats:
        """0 where right, else 1."""
        found: Floats = (answers != labels).astype(np.float64)
        return found

    def same(self, answers: Labels, others: Labels) -> NDArray[np.bool_]:
        """Whether they are one class."""
        found: NDArray[np.bool_] = answers == others
        return found

    def worth(
        self, answers: Sequence[Labels], labels: Labels, reference: Labels | None
    ) -> tuple[Worth, Classes | None]:
        """Right and wrong, and the classes."""
        classes = Classes(np.stack(answers, 1), labels, reference)
        return worth_of(classes), classes

    def hard_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(logits, labels.long().clamp(min=0), reduction="none")

    def soft_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Kullback-Leibler divergence, scaled by the temperature's square (Hinton et al. 2015)."""
        divergence = functional.kl_div(
            (logits / temperature).log_softmax(1),
            (teacher / temperature).log_softmax(1),
            reduction="none",
            log_target=True,
        )
        return divergence.sum(1) * (temperature**2)

    def drawn(self, logits: torch.Tensor) -> torch.Tensor:
        """A class, with its probability."""
        return torch.multinomial(logits.softmax(1), 1).squeeze(1)

    def temperature(self, logits: NDArray[Any], labels: Labels, full: NDArray[Any]) -> float:
        """See `fit_temperature`; without labels the full tier's probabilities are the targets."""
        from adaptive.exits.calibration import fit_temperature

        targets = labels if known_labels(labels) else torch.from_numpy(full).softmax(1).numpy()
        return fit_temperature(logits, targets)

    def fitted(self, full: NDArray[Any], labels: Labels) -> Task:
        """Nothing is."""
        return self

    def function(self, name: str | None) -> Function | None:
        """Natural logarithms for "none", finite where a probability is 0."""
        why = (
            ", which scores each label by itself; the labels of this classifier exclude each "
            "other and their scores sum to 1"
        )
        return function_called(name, _FUNCTIONS, {"sigmoid": why})

    def beside(
        self, scores: NDArray[np.float32] | None, labels: Sequence[str]
    ) -> list[dict[str, Any]] | None:
        """Nothing."""
        return None

    def told(self, scores: torch.Tensor, labels: Sequence[str]) -> tuple[str, float | None]:
        """The class and its probability."""
        return labels[int(scores.argmax())], float(scores.max())

    def evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probabilities."""
        return logits.log_softmax(1)

    def to_json(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def _logarithms(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
    return found


_FUNCTIONS: dict[str, Function | None] = {"softmax": None, "none": _logarithms}
SINGLE_LABEL = SingleLabel()
