"""The ground types: frozen values with a shape beside each field.

Letters in shapes: n texts, r token rows (a long text may own several), t tokens,
b batch, w width, h hidden size, c classes, k stages, m tiers, g groups.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.scalars import plain

if TYPE_CHECKING:
    import torch

Metric = Literal[
    "agreement", "accuracy_drop", "accuracy", "abstention", "milliseconds", "work", "text_cost"
]
FORMER_METRICS = {"latency": "text_cost"}  # names of before, which are still read
MOST_SURE = 0.9999  # the greatest confidence that is certified
BUDGETS = ("milliseconds", "work")  # metrics whose level is a mean cost, in that unit
NEVER = math.inf  # a threshold no reliability reaches: the exit is switched off
ALWAYS = -math.inf  # a threshold every reliability reaches


@dataclass(frozen=True, slots=True)
class Stage:
    """One exit of one tier. Stages stand in order of execution."""

    tier: int  # index of the tier in the cascade
    exit: int  # index of the exit in its tier
    depth: int  # layers of the tier that run before this head; 0 = on the embeddings


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token rows of many texts, ragged: row i is ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.int32]  # [t]
    offsets: NDArray[np.int64]  # [r + 1]
    types: NDArray[np.int8] | None  # [t] segment ids of pairs, where the model has them
    owner: NDArray[np.int64]  # [r] the text each row belongs to, ascending
    truncated: NDArray[np.bool_]  # [n] text was cut

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, [r]."""
        return self.offsets[1:] - self.offsets[:-1]  # np.diff takes five times as long for a text

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows on a device, one behind the other."""

    ids: torch.Tensor  # [t] int64
    lengths: NDArray[np.int64]  # [b] tokens of each row, on the host
    types: torch.Tensor | None = None  # [t] int64
    seen: torch.Tensor | None = None  # [t] bool, False where a bag shall overlook a token


@dataclass(frozen=True, slots=True)
class Target:
    """The promise. Levels are losses, but for `accuracy`, a floor, and budgets, which are costs.

    agreement: share of texts answered unlike the full tier, at most `level`.
    accuracy_drop: accuracy lost against the full tier, as a share of the full tier's
        accuracy, at most `level`; right answers where the full tier errs are credited.
    accuracy: share of right answers, at least `level`.
    abstention: share of texts that are answered by nobody, at most `level`; beside another
        target it lets policies leave texts to a person, and the other targets are then about
        the texts that are answered.
    milliseconds, work: what a text costs in the mean, answered or not, at most `level`, in
        milliseconds or layers x tokens: a budget.
    text_cost: share of texts that cost more than `bound` milliseconds, at most `level`. It is a
        text's share of its batch's time, not how long a request waits.

    What a text costs is read from the cost table. Where all targets but an abstention are about
    costs, the best policy that keeps them is sought; else the cheapest.

    With a `group`, it holds in each of that column's groups by itself, of its own texts and of
    the full tier's accuracy there; hence for any mix of them, the mean over all texts included.
    """

    metric: Metric
    level: float
    confidence: float = 0.95
    group: str | None = None  # a column of the data; `label`: each class, by its true label
    bound: float | None = None  # of text_cost, in milliseconds

    def __post_init__(self) -> None:
        """Numbers of numpy and torch become Python's, a metric's former name its own."""
        object.__setattr__(self, "metric", metric_now(self.metric))
        for name in ("level", "confidence", "bound"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @property
    def fault(self) -> str | None:
        """What is wrong with the level or the bound, in words; None where nothing is."""
        return level_fault(self.metric, self.level) or bound_fault(self.metric, self.bound)


def metric_now(name: Any) -> Any:
    """A metric's name; of a former one, with a warning, the one it has now."""
    if not isinstance(name, str) or name not in FORMER_METRICS:
        return name
    now = FORMER_METRICS[name]
    warnings.warn(
        f"the target metric {name!r} is called {now!r} now: it bounds a text's share of its "
        "batch's time, not how long a request waits. The former name is still read",
        FutureWarning,
        stacklevel=2,
    )
    return now


def level_fault(metric: Metric, level: float) -> str | None:
    """What is wrong with a metric's level, in words; None where nothing is."""
    if metric in BUDGETS:
        fine = 0.0 < level < math.inf
        return None if fine else f"{level:g} is no budget; expected {metric} above 0"
    return None if 0.0 <= level <= 1.0 else f"{level:g} is no share; expected a number from 0 to 1"


def confidence_fault(confidence: float) -> str | None:
    """Why nothing is certified at a confidence, in words; None where it can be."""
    if not 0.0 < confidence < 1.0:
        return f"a confidence of {confidence:g} is no share; expected a number between 0 and 1"
    if confidence <= MOST_SURE:
        return None
    return (
        f"a confidence of {confidence:.10g} is more than {MOST_SURE}: the exact tests would need "
        "gigabytes of memory, and assumptions about the texts to come are not that sure"
    )


def bound_fault(metric: Metric, bound: float | None) -> str | None:
    """What is wrong with a metric's bound, in words; None where nothing is."""
    if metric != "text_cost":
        return None if bound is None else f"{metric} takes no bound; text_cost does"
    fine = bound is not None and 0.0 < bound < math.inf
    return None if fine else "text_cost needs a bound above 0, in milliseconds"


Targets = Target | Sequence[Target]  # all must hold, each in every one of its groups


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides, as one value.

    A text enters at the path's tier with the least `entry_cost + risk_weight x risk`, or at
    the first of the path where `risk_weight` is None. It is answered by the first stage whose
    reliability reaches its threshold. A tier's segments behind its last switched-on exit
    never run: the text goes on to the next tier of the path. The path's last switched-on
    stage answers whatever is left, but for texts of which it is less sure than `abstain`:
    these are answered by nobody.
    """

    path: tuple[int, ...]  # tiers that may run, ascending
    thresholds: tuple[float, ...]  # [k] NEVER = switched off; tiers off the path are NEVER
    risk_weight: float | None = None
    entry_cost: tuple[float, ...] = ()  # [m], in the unit the policy was searched in
    abstain: float = ALWAYS  # ALWAYS = every text is answered

    def on(self, stage: int) -> bool:
        """Whether the exit is switched on."""
        return self.thresholds[stage] != NEVER

    def with_threshold(self, stage: int, value: float) -> Policy:
        """The same policy with one threshold changed."""
        thresholds = list(self.thresholds)
        thresholds[stage] = value
        return replace(self, thresholds=tuple(thresholds))


@dataclass(frozen=True, slots=True)
class Groups:
    """A column that divides the texts."""

    names: tuple[str, ...]  # [g] all there are, be there texts of them here or not
    index: NDArray[np.int32]  # [n] each text's

    def take(self, rows: NDArray[np.integer] | slice) -> Groups:
        """Those of the given texts."""
        return Groups(self.names, self.index[rows])


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a random sample of texts says of the full tier, in float32.

    It stands beside a table of texts of which few have labels: those of the sample, and those that
    a stage answers unlike the full tier. A text that is answered alike needs none, since nothing is
    lost there whatever its label is.
    """

    right: int  # texts of the sample that the full tier has right
    texts: int

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.texts


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """What every stage would answer for held-out texts, so that any policy is a look-up."""

    stages: tuple[Stage, ...]  # [k]
    predictions: NDArray[np.int32]  # [n, k]
    reliability: NDArray[np.float32]  # [n, k]
    risk: NDArray[np.float32]  # [n, m] the router's estimate, zeros without a router
    labels: NDArray[np.int32]  # [n], -1 where unknown
    tokens: NDArray[np.int64]  # [n] tokens of each text
    groups: Mapping[str, Groups] = field(default_factory=dict)  # by column
    # [n] answers of the full tier in float32 in torch, where it is served otherwise; else None
    in_float32: NDArray[np.int32] | None = None
    sampled: Sampled | None = None  # where labels were asked for, else None

    def __len__(self) -> int:
        return len(self.predictions)

    @property
    def reference(self) -> NDArray[np.int32]:
        """The full tier's answers in float32, [n]: what all others are held to."""
        return self.predictions[:, -1] if self.in_float32 is None else self.in_float32

    def take(self, rows: NDArray[np.integer] | slice) -> OutcomeTable:
        """The given texts, in the given order."""
        columns = ("predictions", "reliability", "risk", "labels", "tokens")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in columns},
            groups={name: each.take(rows) for name, each in self.groups.items()},
            in_float32=None if self.in_float32 is None else self.in_float32[rows],
        )


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What each piece of the cascade costs each text, in one unit (layers x tokens or ms).

    A policy's cost is a sum of these, see `adaptive.policy.evaluate`.
    """

    unit: str
    embed: NDArray[np.float64]  # [n, m] entering a tier
    segment: NDArray[np.float64]  # [n, k] layers between the previous exit and this one
    head: NDArray[np.float64]  # [n, k] pooling, head and reliability
    router: NDArray[np.float64]  # [n]
    # [n] deciding at an exit that others of the tier follow: the answers come to the host, and
    # those that go on are put together. None where it costs nothing
    decision: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cascade answered for a batch of token rows, on the host."""

    label: NDArray[np.int32]  # [b] the likeliest
    score: NDArray[np.float32]  # [b] its probability
    probabilities: NDArray[np.float32] | None  # [b, c] where they were asked for
    stage: NDArray[np.int32]  # [b] the stage that answered
    entry: NDArray[np.int32]  # [b] the tier entered
    reliability: NDArray[np.float32]  # [b] NaN where the answering stage is not asked for it
