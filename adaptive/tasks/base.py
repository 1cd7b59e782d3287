"""The seam between what an answer is and everything else.

Letters in shapes: n rows, b of a batch, c outputs of a head (classes, or one number), h hidden
size, k stages, F features. An *answer* has the shape of a label: the number of a class, a row of
zeros and ones, or a number. *Scores* [b, c] are what callers see of the outputs.

A task of tokens or spans has an exit read a row of states a token, and not one a text: its `scores`
and answers then have a further axis, and its `measure` is that of the token it is least sure of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.cells import Cells, Labels, known
from adaptive.exits.measures import History
from adaptive.policy.worth import graded
from adaptive.types import Classes, Worth

Floats = NDArray[np.floating]
Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # of scores


class Task(Protocol):
    """What an answer is. A member is a frozen value; whatever depends on the task asks it."""

    @property
    def name(self) -> str:
        """As recipes and bundles call it."""

    @property
    def problem_type(self) -> str:
        """As a transformers config calls it."""

    @property
    def exclusive(self) -> bool:
        """Whether just one of several classes is right.

        Such answers alone have a class a stage in outcome tables, and with it groups by class,
        labels asked for where they decide, and expected losses; and they alone have kernels and
        graphs of their own (`adaptive.exits.kernel`, `adaptive.exits.judging`).
        """

    @property
    def cells(self) -> Cells:
        """How a column of labels is read."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names [F] of the confidence measures, in the order of `measure`."""

    @property
    def quality(self) -> str:
        """What a mean score in `worth` is called, such as accuracy."""

    @property
    def metric(self) -> str:
        """The same as model hubs call it."""

    @property
    def meaning(self) -> str | None:
        """What scores in `worth` and sameness mean, for certificates; None for right and wrong."""

    @property
    def cascade(self) -> str:
        """What a cascade of this task consists of, for model cards, such as text classifiers."""

    # what exits compute

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores [b, c] of logits [b, c] that are divided by their temperature."""

    def measure(
        self,
        logits: torch.Tensor,
        pooled: torch.Tensor,
        history: History,
        anchor: torch.Tensor | None,
        log_length: torch.Tensor,
    ) -> tuple[torch.Tensor, History]:
        """How sure an exit is: features [b, F] float32, and the history for the tier's next exit.

        Args:
            logits: [b, c], divided by the stage's temperature.
            pooled: [b, h] what the head read.
            history: of the same texts at the tier's previous exit.
            anchor: [b, c] scores of the cascade's first exit; at that exit its own.
            log_length: [b] natural logarithm of each text's tokens.
        """

    def remember(
        self,
        logits: torch.Tensor,
        temper: Callable[[torch.Tensor], torch.Tensor],
        history: History,
        pooled: torch.Tensor,
    ) -> History:
        """The history behind an exit that is switched off.

        Args:
            logits: [b, c] as the head gives them.
            temper: divides them by the stage's temperature.
        """

    def distribution(self, scores: torch.Tensor) -> torch.Tensor:
        """What a router reads of the first exit's scores: shares [b, 2 or more] that sum to 1."""

    # what answers are worth

    def answers(self, scores: torch.Tensor) -> Labels:
        """The answers [n, ...] of scores [n, c], on the host."""

    def losses(self, answers: Labels, labels: Labels) -> Floats:
        """Each answer's loss against its label, [n] in [0, 1]; labels are known."""

    def same(self, answers: Labels, others: Labels) -> NDArray[np.bool_]:
        """Whether answers count as the same, [n]; of labels, as right."""

    def worth(
        self, answers: Sequence[Labels], labels: Labels, reference: Labels | None
    ) -> tuple[Worth, Classes | None]:
        """What all stages' answers are worth, and the classes where there are any.

        Args:
            answers: k times [n, ...].
            labels: [n, ...].
            reference: [n, ...] of the full tier in float32; None where the last stage's are.
        """

    # what is learnt

    def hard_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Each row's training loss against its label, [b]; of no meaning where it is not known."""

    def soft_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Each row's training loss against a teacher's logits, [b]."""

    def drawn(self, logits: torch.Tensor) -> torch.Tensor:
        """A label [b, ...] for each row, drawn from what the model itself says."""

    def temperature(self, logits: NDArray[Any], labels: Labels, full: NDArray[Any]) -> float:
        """A stage's temperature, fitted on rows that no weight was trained on.

        Args:
            logits: [n, c].
            labels: [n, ...].
            full: [n, c] logits of the full tier, which stand in for labels if any is not known.
        """

    def fitted(self, full: NDArray[Any], labels: Labels) -> Task:
        """The task with what it fits itself, by the full tier's logits [n, c] of such rows.

        Labels are known of all rows.
        """

    # what callers see

    def function(self, name: str | None) -> Function | None:
        """What `function_to_apply` does to scores; None for nothing.

        Raises:
            ValueError: there is no such function of this task's scores.
        """

    def beside(
        self, scores: NDArray[np.float32] | None, labels: Sequence[str]
    ) -> list[dict[str, Any]] | None:
        """What an answer's routing holds besides, of scores [n, c]; None for nothing."""

    @property
    def whole(self) -> bool:
        """Whether an answer takes the scores of all outputs, not the greatest alone."""

    def told(self, scores: torch.Tensor, labels: Sequence[str]) -> tuple[str, float | None]:
        """An answer in words, of scores [c], and its probability where it has one."""

    def evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """What attributions share out: [b, c] of tempered logits, a column for each output."""

    @property
    def evidence_unit(self) -> str:
        """The unit of `evidence`."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the name, as JSON."""


def share_of(task: Task, answers: Labels, labels: Labels) -> float:
    """The mean score of answers to rows of which all labels are known."""
    return float(1.0 - np.mean(task.losses(answers, labels), dtype=np.float64))


def graded_worth(
    task: Task, answers: Sequence[Labels], labels: Labels, reference: Labels | None
) -> Worth:
    """`Task.worth` of a task whose answers are no classes."""
    held, told = answers[-1] if reference is None else reference, known(labels)

    def score(each: Labels) -> NDArray[np.float32]:
        found = np.full(len(labels), np.nan, np.float32)
        found[told] = 1.0 - task.losses(each[told], labels[told])
        return found

    alike = np.stack([task.same(each, held) for each in answers], 1)
    scores = np.stack([score(each) for each in answers], 1)
    worth = graded(scores, alike.astype(np.float32), score(held))
    return replace(worth, own=reference is None)


def function_called(
    name: str | None, known: Mapping[str, Function | None], unfit: Mapping[str, str]
) -> Function | None:
    """The function of a name, None for None.

    Args:
        unfit: why functions that others may ask for do not fit, by name.

    Raises:
        ValueError: there is no such function; those that there are are named.
    """
    if name is None or name in known:
        return None if name is None else known[name]
    why, told = unfit.get(name, ""), " or ".join(map(repr, known))
    raise ValueError(f"function_to_apply is {name!r}{why}; expected {told}")
