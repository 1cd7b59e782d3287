"""What an exit says of texts: its answer, and how sure of it the exit is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.captures import by_kernel
from adaptive.exits.judging import judge, judge_in_graph
from adaptive.exits.measures import History, Past, packed, remember, unpacked
from adaptive.exits.reliability import Reliability
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier
from adaptive.transfer import fetch

if TYPE_CHECKING:
    from adaptive.exits.kernel import Judged

# [b, 3] as of `Opinion.answer`: on its way to the host, or on the device until the call ends
Told = Callable[[], NDArray[np.float32]] | torch.Tensor


def on_host(told: Told) -> NDArray[np.float32]:
    """The values, which are waited for."""
    if not isinstance(told, torch.Tensor):
        return told()
    found: NDArray[np.float32] = told.cpu().numpy()
    return found


@dataclass(frozen=True, slots=True)
class Opinion:
    """An exit's own, on b texts. None is what is not asked for, or not read again."""

    probabilities: torch.Tensor | None  # [b, c]
    pooled: torch.Tensor | None  # [b, h] what its head read
    history: Past  # for the tier's next exit
    reliability: torch.Tensor | None  # [b]; None of one that is not asked for it
    # [b, 3] float32, where one kernel gives it: the likeliest label, its probability, reliability
    answer: torch.Tensor | None = None

    def summary(self) -> torch.Tensor:
        """`answer`, where it has to be put together."""
        if self.answer is not None:
            return self.answer
        assert self.probabilities is not None
        score, label = self.probabilities.max(1)
        reliability = score if self.reliability is None else self.reliability
        return torch.stack([label.float(), score, reliability], 1)

    def told(self, *, later: bool) -> Told:
        """The summary for the host, at the end of the call or as soon as possible."""
        if self.answer is not None or self.probabilities is None or self.probabilities.is_cuda:
            return self.summary() if later else fetch(self.summary())
        found = np.empty((len(self.probabilities), 3), np.float32)
        probabilities = self.probabilities.numpy()
        found[:, 0] = label = probabilities.argmax(1)
        found[:, 1] = probabilities[np.arange(len(label)), label]
        if self.reliability is not None:
            found[:, 2] = self.reliability.numpy()
        return lambda: found


def opinion(
    tier: Tier,
    exit: int,
    state: State,
    history: Past,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
    *,
    stage: int,
    reliability: Reliability,
    in_graph: bool,
) -> Opinion:
    """Head and reliability of a tier's exit, on texts that stand behind its segment.

    Args:
        history: of the same texts at the tier's previous exit; None at its first.
        anchor: [b, c] probabilities at the first stage; None at the first stage itself.
        log_length: [b].
        stage: the exit's number in the cascade.
        in_graph: ONNX Runtime computes the reliability; of float32 on a CPU alone.
    """
    logits, pooled = tier.answer(state, exit)
    if by_kernel(logits):
        found = _by_kernel(reliability, stage, logits, pooled, history, anchor, log_length)
        score = found.answer[:, 2]
        return Opinion(found.probabilities, pooled, found.history, score, found.answer)
    past = unpacked(history) or History.start(len(logits), logits.device)
    given = (logits, pooled, past.prediction, past.streak, past.pooled, anchor, log_length)
    said = judge_in_graph if in_graph else judge
    probabilities, prediction, streak, score = said(reliability, stage, *given)
    return Opinion(probabilities, pooled, History(prediction, streak, pooled), score)


def answer_alone(
    tier: Tier, exit: int, state: State, *, stage: int, reliability: Reliability
) -> Opinion:
    """The answer of an exit whose reliability is not asked for, and which none follows."""
    logits, pooled = tier.answer(state, exit)
    if by_kernel(logits):
        found = _by_kernel(reliability, stage, logits, pooled)
        return Opinion(found.probabilities, None, None, None, found.answer)
    return Opinion(reliability.temper(stage, logits).softmax(1), None, None, None)


def overlook(
    tier: Tier, exit: int, state: State, history: Past, *, stage: int, reliability: Reliability
) -> Past:
    """What an exit that is switched off leaves for the tier's next one."""
    logits, pooled = tier.answer(state, exit)
    if by_kernel(logits):
        return _by_kernel(reliability, stage, logits, pooled, history).history
    past = unpacked(history) or History.start(len(logits), logits.device)
    return History(*remember(logits, past.prediction, past.streak), pooled)


def _by_kernel(
    reliability: Reliability,
    stage: int,
    logits: torch.Tensor,
    pooled: torch.Tensor,
    history: Past = None,
    *others: Any,
) -> Judged:
    from adaptive.exits.kernel import judge_by_kernel

    others = others or (None, None)  # no anchor, and no length
    return judge_by_kernel(reliability, stage, logits, pooled, packed(history), *others)
