"""How sure an exit is: the feature row of each text of a batch.

All in float32 whatever comes in, and finite for finite logits. Behind a segment every operation
runs on cold caches, so they are few: intermediate results serve several measures. Letters as in
`adaptive.types`: b batch, h hidden size, c classes, F features.

max_probability: the largest (Hendrycks & Gimpel 2017, arXiv:1610.02136).
margin: the largest probability less the second (Scheffer et al. 2001).
entropy: as a share of the greatest possible, log c; 0 = sure. BranchyNet (Teerapittayanon et al.
    2016, arXiv:1709.01686) and DeeBERT (Xin et al. 2020, arXiv:2004.12993) exit by it.
energy: free energy -logsumexp of the logits (Liu et al. 2020, arXiv:2010.03759); low = familiar.
log_odds: of the largest probability. Taken from the logits and not from the probability, which
    rounds to 1 long before a sure answer stops growing surer.
agrees_previous: 1 where the tier's previous exit predicts the same.
streak: length of the run of exits that agree. PABEE (Zhou et al. 2020, arXiv:2006.04152) exits
    by it.
saturation: cosine of the pooled hidden states of this exit and the previous one; 0 at the
    first. Near 1 the state has stopped moving (Schuster et al. 2022, CALM, arXiv:2207.07061,
    section 3.2).
agrees_anchor, anchor_probability, anchor_max_probability: whether the cascade's first exit
    predicts the same, its probability of this prediction, and its largest one.
log_length: natural logarithm of the text's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

FEATURES: tuple[str, ...] = (
    "max_probability",
    "margin",
    "entropy",
    "energy",
    "log_odds",
    "agrees_previous",
    "streak",
    "saturation",
    "agrees_anchor",
    "anchor_probability",
    "anchor_max_probability",
    "log_length",
)


@dataclass(frozen=True, slots=True)
class History:
    """What a tier's earlier exits said of each text; starts anew at a tier's first exit."""

    prediction: torch.Tensor  # [b] int64, -1 before the first exit; of other tasks scores [b, c]
    streak: torch.Tensor  # [b] float32, earlier exits in a row with this prediction
    pooled: torch.Tensor | None  # [b, h] at the previous exit, None before the first

    @staticmethod
    def start(batch: int, device: torch.device | str) -> History:
        """The history of `batch` texts that no exit has seen."""
        none = torch.full((batch,), -1, dtype=torch.int64, device=device)
        return History(none, torch.zeros(batch, device=device), None)

    def select(self, rows: torch.Tensor) -> History:
        """The given texts' history; `rows` [b'] int64."""
        pooled = None if self.pooled is None else self.pooled.index_select(0, rows)
        return History(
            self.prediction.index_select(0, rows), self.streak.index_select(0, rows), pooled
        )

    def packed(self) -> torch.Tensor:
        """The same as one matrix [b, 2 + h] float32; behind an exit."""
        assert self.pooled is not None
        numbers = [self.prediction.float().unsqueeze(1), self.streak.unsqueeze(1)]
        return torch.cat([*numbers, self.pooled.float()], 1)

    @staticmethod
    def unpacked(values: torch.Tensor) -> History:
        """The inverse of `packed`."""
        return History(values[:, 0].long(), values[:, 1], values[:, 2:])

    @staticmethod
    def join(parts: Sequence[History]) -> History:
        """The history of several batches' texts at the same exit."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return History(
            torch.cat([part.prediction for part in parts]),
            torch.cat([part.streak for part in parts]),
            torch.cat(pooled) if pooled else None,
        )


Past = History | torch.Tensor | None  # None before a tier's first exit; a tensor is packed


def packed(past: Past) -> torch.Tensor | None:
    """As one matrix."""
    return past.packed() if isinstance(past, History) else past


def join(parts: Sequence[Past]) -> Past:
    """That of several batches' texts behind the same exit."""
    plain = [part for part in parts if isinstance(part, History)]
    if len(plain) == len(parts):
        return History.join(plain)
    matrices = [matrix for part in parts if (matrix := packed(part)) is not None]
    return torch.cat(matrices)


def unpacked(past: Past) -> History | None:
    """As a value."""
    return History.unpacked(past) if isinstance(past, torch.Tensor) else past


def remember(
    logits: torch.Tensor, before: torch.Tensor, streak: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and streak [b] behind an exit of logits [b, c], from those before it.

    With `pooled` they are the history, and all that an exit which is switched off leaves.
    """
    prediction = logits.argmax(1)
    return prediction, (streak + 1) * (prediction == before)


def measure(
    logits: torch.Tensor,
    pooled: torch.Tensor,
    history: History,
    anchor_probabilities: torch.Tensor | None,
    log_length: torch.Tensor,
) -> tuple[torch.Tensor, History]:
    """Every measure of one exit: features [b, F] float32 in the order of `FEATURES`.

    Args:
        logits: [b, c], c >= 2, already divided by the stage's temperature.
        pooled: [b, h] what the head read.
        history: of the same texts at the tier's previous exit.
        anchor_probabilities: [b, c] of the cascade's first exit; at that exit its own. None
            where there is no such exit: its three features are then 0.
        log_length: [b] natural logarithm of each text's tokens.

    Returns:
        The features, and the history for the tier's next exit.
    """
    logits = logits.float()
    later = History(*remember(logits, history.prediction, history.streak), pooled)
    chosen, streak = later.prediction.unsqueeze(1), later.streak.unsqueeze(1)
    shares = logits.log_softmax(1)
    best = shares.topk(2, dim=1).values
    first, second = best.chunk(2, dim=1)
    top, next_best = best.exp().chunk(2, dim=1)
    # Relative to the second best, so that the others never vanish; the first may overflow.
    others = (shares - second).exp().scatter(1, chosen, 0.0).sum(1, keepdim=True)
    columns = [
        top,
        top - next_best,
        (shares.exp() * shares).sum(1, keepdim=True) / -math.log(logits.shape[1]),
        first - logits.amax(1, keepdim=True),
        first - second - others.log(),
        streak.clamp(max=1),
        streak,
        cosine(pooled, history.pooled).unsqueeze(1),
        *_second_opinion(chosen, anchor_probabilities),
        log_length.unsqueeze(1),
    ]
    return torch.cat(columns, dim=1), later


def cosine(pooled: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
    """That of states [b, h] and the previous exit's, [b]; 0 where there is none."""
    if previous is None:
        return torch.zeros(len(pooled), device=pooled.device)
    return torch.cosine_similarity(pooled.float(), previous.float(), dim=1)


def _second_opinion(
    chosen: torch.Tensor, anchor: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the anchor [b, c] thinks of predictions [b, 1]: agrees, its probability, its largest."""
    if anchor is None:
        nothing = torch.zeros(len(chosen), 1, device=chosen.device)
        return nothing, nothing, nothing
    largest, choice = anchor.max(1, keepdim=True)
    # joining flags to numbers would take twice as long
    return (choice == chosen).float(), anchor.gather(1, chosen), largest
