"""What an exit says of texts: its answer, and how sure of it the exit is."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

import torch

from adaptive.captures import Function, Tensors, size_of, wanted
from adaptive.exits.judging import judge, judge_in_graph
from adaptive.exits.measures import History, remember
from adaptive.exits.reliability import Reliability
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier


@dataclass(frozen=True, slots=True)
class Opinion:
    """An exit's own, on b texts."""

    probabilities: torch.Tensor  # [b, c]
    pooled: torch.Tensor  # [b, h] what its head read
    history: History  # for the tier's next exit
    reliability: torch.Tensor | None  # [b]; None where nobody asks


def opinion(
    tier: Tier,
    exit: int,
    state: State,
    history: History,
    anchor: torch.Tensor,
    log_length: torch.Tensor,
    *,
    stage: int,
    reliability: Reliability,
    in_graph: bool,
) -> Opinion:
    """Head and reliability of a tier's exit, on texts that stand behind its segment.

    Args:
        history: of the same texts at the tier's previous exit.
        anchor: [b, c] probabilities at the first stage; not read at the first stage itself.
        log_length: [b].
        stage: the exit's number in the cascade.
        in_graph: ONNX Runtime reckons the reliability; of float32 on a CPU alone.
    """
    logits, pooled = tier.answer(state, exit)
    before = (history.prediction, history.streak, history.pooled)
    given = (logits, pooled, *before, anchor, log_length)
    found: Tensors
    if in_graph:
        found = judge_in_graph(reliability, stage, *given)
    else:
        name = ("judge", exit, reliability.temperature.data_ptr())
        found = _launch(tier, name, partial(judge, reliability, stage), *given)
    probabilities, prediction, streak, score = found
    return Opinion(probabilities, pooled, History(prediction, streak, pooled), score)


def answer_alone(
    tier: Tier, exit: int, state: State, history: History, *, stage: int, reliability: Reliability
) -> Opinion:
    """The answer of an exit whose reliability nobody asks for, and which none follows."""
    logits, pooled = tier.answer(state, exit)
    return Opinion(reliability.temper(stage, logits).softmax(1), pooled, history, None)


def overlook(tier: Tier, exit: int, state: State, history: History) -> History:
    """What an exit that is switched off leaves for the tier's next one."""
    logits, pooled = tier.answer(state, exit)
    given = (logits, history.prediction, history.streak)
    prediction, streak = _launch(tier, ("remember",), remember, *given)
    return History(prediction, streak, pooled)


def _launch(
    tier: Tier,
    name: tuple[Hashable, ...],
    function: Function,
    logits: torch.Tensor,
    *others: torch.Tensor | None,
) -> Tensors:
    """A function of tensors of one row a text, as one launch on a GPU."""
    if not wanted(logits.device):
        return function(logits, *others)
    given = (logits, *others)
    held = [each for each in given if each is not None]
    missing = [each is None for each in given]

    def filled(*tensors: torch.Tensor) -> Tensors:
        rest = iter(tensors)
        return function(*(None if none else next(rest) for none in missing))

    sizes = [size_of(len(logits))] * len(held)
    return tier.captures((*name, len(held)), partial(function, *given), filled, held, sizes)
