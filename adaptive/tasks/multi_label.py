"""Any number of classes a text, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptive.cells import Cells, Labels, SetCells, known_labels
from adaptive.exits.measures import History, cosine
from adaptive.tasks.base import Floats, Function, Task, function_called, graded_worth
from adaptive.tasks.thresholds import f1_loss, fit_thresholds, subset_loss
from adaptive.types import Classes, Worth

Loss = Literal["f1", "subset"]
FEATURES: tuple[str, ...] = (
    "least_margin",  # the least distance of a class's score from its threshold
    "mean_margin",
    "least_log_odds",  # the same in log-odds, which do not end where scores do
    "mean_entropy",  # of the classes, as a share of the greatest; 0 = sure
    "log_probability",  # that all decisions are right, if classes were independent
    "chosen",  # classes whose score reaches its threshold
    "agrees_previous",  # these are those of the tier's previous exit
    "streak",  # length of the run of exits that agree
    "change",  # the greatest difference of a score from the previous exit's
    "saturation",  # cosine of the pooled states of this exit and the previous one
    "agrees_anchor",  # the classes chosen are those of the cascade's first exit
    "anchor_change",  # the greatest difference of a score from that exit's
    "log_length",
)


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """Answers are rows of 0 and 1, int8 [n, c]; scores are sigmoids, one a class.

    A class is chosen where its score reaches its threshold: 0.5, or what `fitted` finds. All
    stages share the thresholds, since their scores are calibrated, each by its temperature.
    """

    problem_type: ClassVar[str] = "multi_label_classification"
    exclusive: ClassVar[bool] = False
    cascade: ClassVar[str] = "text classifiers that give any number of labels"
    whole: ClassVar[bool] = True
    evidence_unit: ClassVar[str] = "nats"
    features: ClassVar[tuple[str, ...]] = FEATURES

    loss: Loss = "f1"  # 1 - the example's F1; or 1 where a text's classes are not all right
    separator: str = "|"  # between the labels of a cell of text
    threshold: float | None = None  # of all classes; None = fitted
    thresholds: tuple[float, ...] | None = None  # [c], once they are fitted
    name: ClassVar[str] = "multi_label"

    def __post_init__(self) -> None:
        """Lists, as JSON has them, become tuples."""
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss is {self.loss!r}; expected {' or '.join(get_args(Loss))}")
        if not isinstance(self.separator, str) or len(self.separator) != 1:
            raise ValueError("separator must be one character")
        for each in (self.threshold, *(self.thresholds or ())):
            if each is not None and not 0.0 < each < 1.0:
                raise ValueError(f"a threshold is {each}; expected a number between 0 and 1")

    @property
    def quality(self) -> str:
        """One less the loss."""
        return "example F1" if self.loss == "f1" else "subset accuracy"

    @property
    def metric(self) -> str:
        """As hubs call it."""
        return "f1" if self.loss == "f1" else "accuracy"

    @property
    def meaning(self) -> str | None:
        """Of F1 and of sets."""
        score = (
            "F1 of the labels chosen for a text against its own, 1 where there are none on either "
            "side"
            if self.loss == "f1"
            else "1 where the labels chosen are just the text's own, else 0"
        )
        return (
            f"A score is {score}. Answers are alike where the same labels are chosen: those whose "
            "score reaches the label's threshold."
        )

    @property
    def cells(self) -> Cells:
        """Sets of classes."""
        return SetCells(self.separator)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Their sigmoid."""
        return logits.sigmoid()

    def measure(
        self,
        logits: torch.Tensor,
        pooled: torch.Tensor,
        history: History,
        anchor: torch.Tensor | None,
        log_length: torch.Tensor,
    ) -> tuple[torch.Tensor, History]:
        """See `FEATURES`; the history holds the scores in place of a class."""
        logits = logits.float()
        scores, limits = logits.sigmoid(), self._limits(logits)
        later = self._later(scores, limits, history, pooled)
        margin = (scores - limits).abs()
        sure = functional.logsigmoid(logits.abs())  # log-probability of the likelier side
        log_odds = (logits - limits.logit()).abs()
        chosen = scores >= limits
        first = scores if anchor is None else anchor
        change = torch.zeros_like(later.streak)
        if history.pooled is not None:
            change = (scores - history.prediction).abs().amax(1)
        columns = [
            margin.amin(1),
            margin.mean(1),
            log_odds.amin(1),
            functional.binary_cross_entropy_with_logits(logits, scores, reduction="none").mean(1)
            / float(np.log(2.0)),
            sure.sum(1),
            chosen.sum(1).float(),
            later.streak.clamp(max=1),
            later.streak,
            change,
            cosine(pooled, history.pooled),
            ((first >= limits) == chosen).all(1).float(),
            (scores - first).abs().amax(1),
            log_length,
        ]
        return torch.stack(columns, 1), later

    def remember(
        self,
        logits: torch.Tensor,
        temper: Callable[[torch.Tensor], torch.Tensor],
        history: History,
        pooled: torch.Tensor,
    ) -> History:
        """The scores, and for how many exits the same classes were chosen."""
        logits = temper(logits)
        return self._later(logits.sigmoid(), self._limits(logits), history, pooled)

    def _later(
        self, scores: torch.Tensor, limits: torch.Tensor, history: History, pooled: torch.Tensor
    ) -> History:
        streak = torch.zeros(len(scores), device=scores.device)
        if history.pooled is not None:
            same = ((history.prediction >= limits) == (scores >= limits)).all(1)
            streak = (history.streak + 1) * same
        return History(scores, streak, pooled)

    def distribution(self, scores: torch.Tensor) -> torch.Tensor:
        """That of the class nearest to its threshold, [b, 2]."""
        limits = self._limits(scores)
        nearest = (scores - limits).abs().argmin(1, keepdim=True)
        share = scores.gather(1, nearest)
        return torch.cat([share, 1.0 - share], 1)

    def answers(self, scores: torch.Tensor) -> Labels:
        """The classes chosen, [n, c]."""
        found: NDArray[np.int8] = (scores >= self._limits(scores)).to(torch.int8).cpu().numpy()
        return found

    def losses(self, answers: Labels, labels: Labels) -> Floats:
        """1 - 2 |A and B| / (|A| + |B|), 0 where both are empty; or 1 where A is not B."""
        said, true = answers > 0, labels > 0
        return _LOSSES[self.loss]((said & true).sum(1), said.sum(1), true.sum(1))

    def same(self, answers: Labels, others: Labels) -> NDArray[np.bool_]:
        """Whether just the same classes were chosen."""
        found: NDArray[np.bool_] = (answers == others).all(1)
        return found

    def worth(
        self, answers: Sequence[Labels], labels: Labels, reference: Labels | None
    ) -> tuple[Worth, Classes | None]:
        """By the loss."""
        return graded_worth(self, answers, labels, reference), None

    def hard_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, mean over classes."""
        targets = labels.to(logits.dtype).clamp(min=0)
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return loss.mean(1)

    def soft_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Kullback-Leibler divergence of each class's two outcomes, mean over classes.

        It is scaled by the temperature's square, as for exclusive classes.
        """
        target = (teacher / temperature).sigmoid()
        cross = functional.binary_cross_entropy_with_logits
        own = cross(logits / temperature, target, reduction="none")
        least = cross(teacher / temperature, target, reduction="none")
        return (own - least).mean(1) * (temperature**2)

    def drawn(self, logits: torch.Tensor) -> torch.Tensor:
        """Each class with its probability."""
        return torch.bernoulli(logits.sigmoid())

    def temperature(self, logits: NDArray[Any], labels: Labels, full: NDArray[Any]) -> float:
        """Of least binary cross-entropy over all classes, as of as many rows of two classes."""
        from adaptive.exits.calibration import fit_temperature

        pairs = np.stack([np.zeros(logits.size), np.asarray(logits, np.float64).ravel()], 1)
        if known_labels(labels):
            return fit_temperature(pairs, labels.ravel().astype(np.int64))
        share = torch.from_numpy(full).double().sigmoid().numpy().ravel()
        return fit_temperature(pairs, np.stack([1.0 - share, share], 1))

    def fitted(self, full: NDArray[Any], labels: Labels) -> Task:
        """With a threshold a class, see `fit_thresholds`."""
        if self.threshold is not None:
            return replace(self, thresholds=(self.threshold,) * full.shape[1])
        logits = torch.from_numpy(np.asarray(full, np.float32))
        scores = (logits / self.temperature(full, labels, full)).sigmoid().numpy()
        return replace(self, thresholds=fit_thresholds(scores, labels > 0, _LOSSES[self.loss]))

    def function(self, name: str | None) -> Function | None:
        """Log-odds for "none": the logits over their temperature."""
        why = ", whose scores sum to 1; the labels of this model do not exclude each other"
        return function_called(name, _FUNCTIONS, {"softmax": why})

    def beside(
        self, scores: NDArray[np.float32] | None, labels: Sequence[str]
    ) -> list[dict[str, Any]] | None:
        """The labels that are chosen, likeliest first."""
        assert scores is not None
        limits = np.asarray(self._values, np.float32)
        order = np.argsort(-scores, 1, kind="stable")
        chosen = np.take_along_axis(scores >= limits, order, 1)
        return [
            {"labels": [labels[place] for place in row[own].tolist()]}
            for row, own in zip(order, chosen, strict=True)
        ]

    def told(self, scores: torch.Tensor, labels: Sequence[str]) -> tuple[str, float | None]:
        """The labels chosen."""
        (chosen,) = self.answers(scores.unsqueeze(0)) > 0
        names = [labels[place] for place in np.flatnonzero(chosen).tolist()]
        return ", ".join(names) or "no label", None

    def evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """Each class's log-probability."""
        return functional.logsigmoid(logits)

    def to_json(self) -> dict[str, Any]:
        """Its choices and thresholds."""
        limits = None if self.thresholds is None else list(self.thresholds)
        named = {"loss": self.loss, "separator": self.separator, "threshold": self.threshold}
        return {**named, "thresholds": limits}

    def _limits(self, like: torch.Tensor) -> torch.Tensor:
        """The thresholds [c], on the device of what is compared."""
        return _tensor(self._values, like.device)

    @property
    def _values(self) -> tuple[float, ...]:
        """Of each class, or one for all."""
        return self.thresholds or (self.threshold or 0.5,)


@cache
def _tensor(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _logits(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds, finite where a score is 0 or 1."""
    held = np.clip(scores.astype(np.float64), 1e-12, 1.0 - 1e-12)
    return np.log(held / (1.0 - held)).astype(np.float32)


_LOSSES = {"f1": f1_loss, "subset": subset_loss}
_FUNCTIONS: dict[str, Function | None] = {"sigmoid": None, "none": _logits}
