"""An exit: pooling, head, confidence measures and reliability, and the comparison by which rows
leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.captures import by_kernel
from adaptive.device.transfer import fetch
from adaptive.exits.judging import judge_in_graph
from adaptive.exits.measures import History, Past, packed, unpacked
from adaptive.exits.reliability import Reliability
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier

if TYPE_CHECKING:
    from adaptive.exits.kernel import Judged

# What is read of an exit: whatever it computes; its answer alone, where it answers everything;
# or, of one that is switched off, what the tier's next exit compares itself with.
Read = Literal["all", "answer", "history"]
# [b, 3] as of `ExitOutput.answer`: on its way to the host, or still on the device
Summary = Callable[[], NDArray[np.float32]] | torch.Tensor
LABEL, SCORE, RELIABILITY = range(3)  # columns of a summary


def on_host(summary: Summary) -> NDArray[np.float32]:
    """The values, which are waited for."""
    if not isinstance(summary, torch.Tensor):
        return summary()
    found: NDArray[np.float32] = summary.cpu().numpy()
    return found


def reaches(summary: Summary, threshold: float) -> NDArray[np.bool_]:
    """Which rows are sure enough to leave, [b]; a reliability that equals the threshold is.

    This is the one place where the host waits for the device.
    """
    found: NDArray[np.bool_] = on_host(summary)[:, RELIABILITY] >= np.float32(threshold)
    return found


@dataclass(frozen=True, slots=True)
class ExitOutput:
    """What an exit computes for b rows. None is what is not asked for, or not read again."""

    probabilities: torch.Tensor | None = None  # [b, c] scores, as `Task.scores` gives them
    pooled: torch.Tensor | None = None  # [b, h] what its head read
    history: Past = None  # for the tier's next exit
    reliability: torch.Tensor | None = None  # [b]; None of one that is not asked for it
    # [b, 3] float32, where one kernel gives it: the label of the greatest score, that score,
    # reliability
    answer: torch.Tensor | None = None

    def summary_on_device(self) -> torch.Tensor:
        """`answer`, where it has to be put together."""
        if self.answer is not None:
            return self.answer
        assert self.probabilities is not None
        score, label = self.probabilities.max(1)
        reliability = score if self.reliability is None else self.reliability
        return torch.stack([label.float(), score, reliability], 1)

    def summary(self, *, later: bool) -> Summary:
        """The same for the host, which needs it now, or after many more batches."""
        if self.answer is not None or self.probabilities is None or self.probabilities.is_cuda:
            summary = self.summary_on_device()
            return summary if later else fetch(summary)
        found = np.empty((len(self.probabilities), 3), np.float32)
        probabilities = self.probabilities.numpy()
        found[:, LABEL] = label = probabilities.argmax(1)
        found[:, SCORE] = probabilities[np.arange(len(label)), label]
        if self.reliability is not None:
            found[:, RELIABILITY] = self.reliability.numpy()
        return lambda: found


def run_exit(
    tier: Tier,
    exit: int,
    state: State,
    history: Past = None,
    anchor: torch.Tensor | None = None,
    log_length: torch.Tensor | None = None,
    *,
    stage: int,
    reliability: Reliability,
    in_graph: bool = False,
    read: Read = "all",
    task: Task = SINGLE_LABEL,
) -> ExitOutput:
    """Pool, head, measures and reliability of a tier's exit, on rows that stand behind its layers.

    Args:
        history: of the same rows at the tier's previous exit; None at its first.
        anchor: [b, c] scores at the first stage; None at the first stage itself.
        log_length: [b]; as `anchor`, needed where everything is read, or in a graph.
        stage: the exit's number in the cascade.
        in_graph: ONNX Runtime computes all that follows pooling, of a tier in float32; on a CPU
            and of exclusive classes alone.
        task: what the answers are.
    """
    if in_graph and read != "answer" and state.hidden.dtype == torch.float32:
        given = (unpacked(history), anchor, log_length)
        return _in_graph(tier, exit, state, *given, stage=stage, reliability=reliability)
    logits, pooled = tier.answer(state, exit)
    if task.exclusive and by_kernel(logits):
        before = None if read == "answer" else packed(history)
        others = (anchor, log_length) if read == "all" else (None, None)
        return _by_kernel(reliability, stage, logits, pooled, before, *others)
    if read == "answer":
        return ExitOutput(task.scores(reliability.temper(stage, logits)))
    past = unpacked(history) or History.start(len(logits), logits.device)
    if read == "history":
        temper = partial(reliability.temper, stage)
        return ExitOutput(history=task.remember(logits, temper, past, pooled))
    assert log_length is not None
    logits = reliability.temper(stage, logits)
    scores = task.scores(logits)
    first = anchor if stage else scores
    features, later = task.measure(logits, pooled, past, first, log_length)
    return ExitOutput(scores, pooled, later, reliability(stage, features))


def _in_graph(
    tier: Tier,
    exit: int,
    state: State,
    history: History | None,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor | None,
    *,
    stage: int,
    reliability: Reliability,
) -> ExitOutput:
    """The same by ONNX Runtime, the head too where it is no transformer's own."""
    head = tier.head_arrays(exit)
    if head is None:
        logits, pooled = tier.answer(state, exit)
        head = {"logits": logits.numpy()}
    else:
        pooled = tier.backbone.pool(state)
    assert log_length is not None
    found = judge_in_graph(reliability, stage, head, pooled, history, anchor, log_length)
    probabilities, later, score = found
    return ExitOutput(probabilities, pooled, later, score)


def _by_kernel(
    reliability: Reliability, stage: int, logits: torch.Tensor, pooled: torch.Tensor, *others: Any
) -> ExitOutput:
    """The same in one Triton kernel, which computes everything whatever is read."""
    from adaptive.exits.kernel import judge_by_kernel

    found: Judged = judge_by_kernel(reliability, stage, logits, pooled, *others)
    answer = found.answer
    return ExitOutput(found.probabilities, pooled, found.history, answer[:, RELIABILITY], answer)
