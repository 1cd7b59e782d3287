"""What decides: how an answer is expected to compare with the full model's.

Reliability is one half and half of the expected gain in score, which of scores of 0 and 1 is the
probability that the answer is better, and half that it is as good. Where only sameness is promised
it falls with the probability of being different. An expected loss is divided by what the full model
would cost on such a prompt, beside its mean: of two requests that lose alike, the one where more is
saved is accepted first, since what is promised is a mean and what is saved a sum (a knapsack, whose
greedy order is by loss for each dollar). It orders what is accepted, and promises nothing.

Before any answer it is read off the prompt alone, for each model: that is what a request enters by.
After an answer it is read off the prompt, the answer's signals, and the answers that came before it
in the same chain. A chain calls its models in turn, the first one always first, so what a stage
knows does not depend on the policy, and any policy is a look-up (see `adaptive.recorded.layouts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive.recorded.estimators import Estimator, Fitted, fit_estimator
from adaptive.recorded.outcomes import Outcomes
from adaptive.recorded.signals import Signals, agreements, fit_signals
from adaptive.recorded.texts import Encoder, Texts, fit_texts, shape_of

Floats = NDArray[np.float64]
Chain = tuple[str, ...]  # models, in the order they are called
Scorer = Callable[[str, str], float]
GROUPS = 100  # values of a group that are told apart
MULTIPLES = (0.05, 20.0)  # of the mean cost, at least and at most


@dataclass(frozen=True, slots=True)
class Prompts:
    """How a request becomes numbers before anything is called."""

    texts: Texts | None  # None: no prompts were recorded, or an encoder of the user's reads them
    groups: tuple[str, ...]  # values that are told apart
    encoder: Encoder | None = None

    def __call__(self, outcomes: Outcomes) -> Floats:
        """Features, [n, w]."""
        columns = [np.zeros((len(outcomes), 0))]
        if self.encoder is not None:
            prompts = outcomes.prompts
            encoded = np.asarray(self.encoder(prompts), dtype=np.float64)
            columns += [encoded.reshape(len(outcomes), -1), shape_of(prompts)]
        elif self.texts is not None:
            columns.append(self.texts(outcomes.prompts))
        if self.groups:
            own = outcomes.requests.get("group", np.full(len(outcomes), None, object))
            columns.append(
                np.array([[each == name for name in self.groups] for each in own], float)
            )
        return np.hstack(columns)


def fit_prompts(outcomes: Outcomes, seed: int, encoder: Encoder | None = None) -> Prompts:
    """Learn how prompts are read from the rows that fit."""
    found = outcomes.requests.get("group")
    names = [] if found is None else sorted({each for each in found if each is not None})
    groups = tuple(names) if 1 < len(names) <= GROUPS else ()
    texts = None
    if encoder is None and "prompt" in outcomes.requests:
        texts = fit_texts(outcomes.prompts, seed)
    return Prompts(texts, groups, encoder)


@dataclass(frozen=True, slots=True)
class Judge:
    """The two expectations that a reliability is made of."""

    worse: Estimator  # of how much lower than the full model's the score is, in [0, 1]
    better: Estimator | None  # of how much higher; None: it does not count

    def __call__(self, features: Floats) -> Floats:
        """Reliability, [n] of [n, w]."""
        gain = 0.0 if self.better is None else self.better(features)
        return 0.5 * (1.0 + gain - self.worse(features))


@dataclass(frozen=True, slots=True)
class Spending:
    """What the full model costs on a prompt, as a multiple of its mean, by the prompt's letters."""

    base: float = 1.0
    slope: float = 0.0  # a letter

    def __call__(self, prompts: Sequence[str]) -> Floats:
        """Multiples, [n]."""
        letters = np.array([len(text) for text in prompts], dtype=np.float64)
        return np.clip(self.base + self.slope * letters, *MULTIPLES)


def fit_spending(prompts: Sequence[str], costs: Floats) -> Spending:
    """By least squares; one for all where costs do not rise with the letters."""
    letters = np.array([len(text) for text in prompts], dtype=np.float64)
    mean = float(costs.mean())
    if mean <= 0.0 or np.ptp(letters) == 0.0:
        return Spending()
    slope = float(np.cov(letters, costs)[0, 1] / letters.var(ddof=1)) / mean
    return Spending(1.0 - slope * float(letters.mean()), slope) if slope > 0.0 else Spending()


@dataclass(frozen=True, slots=True)
class Judges:
    """All estimators of a set of models, and how their features are made."""

    prompts: Prompts
    signals: Mapping[str, Signals]  # by model
    entry: Mapping[str, Judge]  # by model, of the prompt alone
    after: Mapping[Chain, Judge]  # by the models called up to the answer, itself last
    scorer: Scorer  # by which answers agree
    spending: Spending

    def before(self, outcomes: Outcomes, features: Floats | None = None) -> dict[str, Floats]:
        """Reliability of each model, [n] each, before anything is called."""
        read = self.prompts(outcomes) if features is None else features
        worth = self.spending(outcomes.prompts)
        return {model: weighed(judge(read), worth) for model, judge in self.entry.items()}

    def reliability(
        self, outcomes: Outcomes, chain: Chain, features: Floats | None = None
    ) -> Floats:
        """Reliability of the chain's last answer, [n]."""
        read = self.prompts(outcomes) if features is None else features
        found = self.after[chain](self.features(outcomes, chain, read))
        return weighed(found, self.spending(outcomes.prompts))

    def features(self, outcomes: Outcomes, chain: Chain, prompts: Floats) -> Floats:
        """What is known once the chain's last model has answered, [n, w]."""
        return _features(outcomes, chain, prompts, self.signals, self.scorer)


def weighed(reliability: Floats, worth: Floats) -> Floats:
    """Reliability [n] with expected losses divided by what is saved, [n]."""
    loss = 1.0 - 2.0 * reliability
    return 0.5 * (1.0 - np.clip(np.where(loss > 0.0, loss / worth, loss), -1.0, 1.0))


def _features(
    outcomes: Outcomes,
    chain: Chain,
    prompts: Floats,
    signals: Mapping[str, Signals],
    scorer: Scorer,
) -> Floats:
    own = [signals[model](outcomes) for model in chain]
    agreed = agreements(outcomes, chain[-1], chain[:-1], scorer)
    return np.hstack([prompts, *own, agreed])


def fit_judges(
    outcomes: Outcomes,
    gains: Mapping[str, Floats],
    chains: Sequence[Chain],
    scorer: Scorer,
    costs: Floats,
    seed: int = 0,
    encoder: Encoder | None = None,
) -> tuple[Judges, dict[str, Fitted]]:
    """Fit all estimators on the rows that fit.

    Args:
        gains: [n] of each model, its score less the full model's; of sameness, -1 where its answer
            is another.
        chains: all prefixes of chains that may be asked for.
        costs: [n] of the full model.

    Returns:
        The judges, and how the estimate of a loss does out of fold, by the names of its chain
        (`>` between them); those of the prompt alone begin with `>`.
    """
    prompts = fit_prompts(outcomes, seed, encoder)
    read = prompts(outcomes)
    told: dict[str, Fitted] = {}
    signals = {model: fit_signals(outcomes, model) for model in gains}

    def fit(name: str, features: Floats, gain: Floats, trees: bool) -> Judge:
        told[name] = worse = fit_estimator(features, np.maximum(-gain, 0.0), seed, trees=trees)
        if not (gain > 0.0).any():
            return Judge(worse.estimator, None)
        better = fit_estimator(features, np.maximum(gain, 0.0), seed, trees=trees)
        return Judge(worse.estimator, better.estimator)

    entry = {model: fit(f">{model}", read, gain, False) for model, gain in gains.items()}
    after = {}
    for chain in chains:
        known = _features(outcomes, chain, read, signals, scorer)
        after[chain] = fit(">".join(chain), known, gains[chain[-1]], True)
    spending = fit_spending(outcomes.prompts, costs)
    return Judges(prompts, signals, entry, after, scorer, spending), told
