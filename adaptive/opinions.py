"""What an exit says of texts: its answer, and how sure of it the exit is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from adaptive.captures import Tensors, size_of, wanted
from adaptive.exits.measures import History, measure, remember
from adaptive.exits.reliability import Reliability
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier


@dataclass(frozen=True, slots=True)
class Opinion:
    """An exit's own, on b texts."""

    logits: torch.Tensor  # [b, c] tempered
    pooled: torch.Tensor  # [b, h] what its head read
    history: History  # for the tier's next exit
    anchor: torch.Tensor  # [b, c] probabilities at the first stage; there its own
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
    judged: bool,
) -> Opinion:
    """Head and reliability of a tier's exit, on texts that stand behind its segment.

    Args:
        history: of the same texts at the tier's previous exit.
        anchor: [b, c] probabilities at the first stage; not read at the first stage itself.
        log_length: [b].
        stage: the exit's number in the cascade.
        judged: whether its reliability is wanted.
    """

    def say(
        logits: torch.Tensor,
        pooled: torch.Tensor,
        prediction: torch.Tensor,
        streak: torch.Tensor,
        anchor: torch.Tensor,
        log_length: torch.Tensor,
        previous: torch.Tensor | None = None,
    ) -> Tensors:
        before = History(prediction, streak, previous)
        logits = reliability.temper(stage, logits)
        if stage == 0:
            anchor = logits.softmax(1)
        if not judged:
            after = remember(logits, pooled, before)
            return logits, after.prediction, after.streak, anchor
        features, after = measure(logits, pooled, before, anchor, log_length)
        return logits, after.prediction, after.streak, anchor, reliability(stage, features)

    logits, pooled = tier.answer(state, exit)
    given = [logits, pooled, history.prediction, history.streak, anchor, log_length]
    if history.pooled is not None:
        given.append(history.pooled)
    if wanted(pooled.device):
        name = (exit, judged, len(given), reliability.temperature.data_ptr())
        sizes = [size_of(len(pooled))] * len(given)
        found = tier.captures(name, partial(say, *given), say, given, sizes)
    else:
        found = say(*given)
    tempered, prediction, streak, anchor, *score = found
    return Opinion(
        tempered, pooled, History(prediction, streak, pooled), anchor, score[0] if score else None
    )
