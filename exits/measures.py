"""How sure an exit is: pure functions of a batch, and the feature row built from them.

All work in float32 whatever comes in, and stay finite for finite logits. Letters as in
`adaptive.types`: b batch, h hidden size, c classes, F features.
"""

from __future__ import annotations

import math
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

    prediction: torch.Tensor  # [b] int64, -1 before the first exit
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


def max_probability(probabilities: torch.Tensor) -> torch.Tensor:
    """Largest probability [b] of [b, c] (Hendrycks & Gimpel 2017, arXiv:1610.02136)."""
    return probabilities.float().amax(1)


def margin(probabilities: torch.Tensor) -> torch.Tensor:
    """Largest less second largest probability [b] of [b, c] (Scheffer et al. 2001)."""
    first, second = probabilities.float().topk(2, dim=1).values.unbind(1)
    return first - second


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy [b] of [b, c] as a share of the greatest possible, log c; 0 = sure.

    BranchyNet (Teerapittayanon et al. 2016, arXiv:1709.01686) and DeeBERT (Xin et al. 2020,
    arXiv:2004.12993) exit by it. Zero probabilities count nothing.
    """
    nats: torch.Tensor = torch.special.entr(probabilities.float()).sum(1)
    return nats / math.log(probabilities.shape[1])


def energy(logits: torch.Tensor) -> torch.Tensor:
    """Free energy -logsumexp [b] of logits [b, c]; low = familiar.

    Liu et al. 2020, arXiv:2010.03759, at the temperature already in the logits.
    """
    return -logits.float().logsumexp(1)


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Log odds [b] of the largest probability, from logits [b, c].

    Taken against the other logits and not from the probability, which rounds to 1 long
    before a sure answer stops growing surer.
    """
    logits = logits.float()
    top, prediction = logits.max(1)
    others = logits.scatter(1, prediction.unsqueeze(1), -torch.inf)
    return top - others.logsumexp(1)


def agreement(prediction: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1.0 where two predictions [b] are the same, else 0.0; -1 (no prediction) never is."""
    return (prediction == other).float()


def patience(agrees: torch.Tensor, streak: torch.Tensor) -> torch.Tensor:
    """Length [b] of the run of exits that agree, one longer or back at 0.

    PABEE (Zhou et al. 2020, arXiv:2006.04152) exits by it. `agrees` [b] in {0, 1} compares
    this exit with the previous one, `streak` [b] is the previous exit's run.
    """
    return (streak + 1) * agrees


def saturation(pooled: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
    """Cosine [b] between pooled hidden states [b, h] of two exits; 0 without a previous one.

    Near 1 the hidden state has stopped moving (Schuster et al. 2022, CALM,
    arXiv:2207.07061, section 3.2).
    """
    if previous is None:
        return torch.zeros(len(pooled), device=pooled.device)
    cosine: torch.Tensor = torch.cosine_similarity(pooled.float(), previous.float(), dim=1)
    return cosine


def remember(logits: torch.Tensor, pooled: torch.Tensor, history: History) -> History:
    """The history behind an exit; all that an exit which is switched off has to leave."""
    prediction = logits.argmax(1)
    agrees = agreement(prediction, history.prediction)
    return History(prediction, patience(agrees, history.streak), pooled)


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
    probabilities = logits.float().softmax(1)
    later = remember(logits, pooled, history)
    features = [
        max_probability(probabilities),
        margin(probabilities),
        entropy(probabilities),
        energy(logits),
        log_odds(logits),
        agreement(later.prediction, history.prediction),
        later.streak,
        saturation(pooled, history.pooled),
        *_second_opinion(later.prediction, anchor_probabilities),
        log_length.float(),
    ]
    return torch.stack(features, dim=1), later


def _second_opinion(
    prediction: torch.Tensor, anchor: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the anchor [b, c] thinks of predictions [b]: agrees, its probability, its largest."""
    if anchor is None:
        nothing = torch.zeros(len(prediction), device=prediction.device)
        return nothing, nothing, nothing
    anchor = anchor.float()
    largest, choice = anchor.max(1)
    own = anchor.gather(1, prediction.unsqueeze(1)).squeeze(1)
    return agreement(prediction, choice), own, largest
