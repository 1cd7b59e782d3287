"""What an exit says of texts: its answer, and how sure of it the exit is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adaptive.captures import by_kernel
from adaptive.exits.judging import judge, judge_in_graph
from adaptive.exits.measures import History, remember
from adaptive.exits.reliability import Reliability
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier


@dataclass(frozen=True, slots=True)
class Opinion:
    """An exit's own, on b texts."""

    probabilities: torch.Tensor  # [b, c]
    pooled: torch.Tensor | None  # [b, h] what its head read; None where it is not read again
    history: History | None  # for the tier's next exit; None where none follows
    reliability: torch.Tensor | None  # [b]; None where it is not asked for


def opinion(
    tier: Tier,
    exit: int,
    state: State,
    history: History,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
    *,
    stage: int,
    reliability: Reliability,
    in_graph: bool,
) -> Opinion:
    """Head and reliability of a tier's exit, on texts that stand behind its segment.

    Args:
        history: of the same texts at the tier's previous exit.
        anchor: [b, c] probabilities at the first stage; None at the first stage itself.
        log_length: [b].
        stage: the exit's number in the cascade.
        in_graph: ONNX Runtime computes the reliability; of float32 on a CPU alone.
    """
    logits, pooled = tier.answer(state, exit)
    before = (history.prediction, history.streak, history.pooled)
    given = (logits, pooled, *before, anchor, log_length)
    if in_graph:
        found = judge_in_graph(reliability, stage, *given)
    elif by_kernel(logits):
        from adaptive.exits.kernel import judge_by_kernel

        found = judge_by_kernel(reliability, stage, *given)
    else:
        found = judge(reliability, stage, *given)
    probabilities, prediction, streak, score = found
    return Opinion(probabilities, pooled, History(prediction, streak, pooled), score)


def answer_alone(
    tier: Tier, exit: int, state: State, *, stage: int, reliability: Reliability
) -> Opinion:
    """The answer of an exit whose reliability is not asked for, and which none follows."""
    logits, _pooled = tier.answer(state, exit)
    return Opinion(reliability.temper(stage, logits).softmax(1), None, None, None)


def overlook(tier: Tier, exit: int, state: State, history: History) -> History:
    """What an exit that is switched off leaves for the tier's next one."""
    logits, pooled = tier.answer(state, exit)
    return History(*remember(logits, history.prediction, history.streak), pooled)
