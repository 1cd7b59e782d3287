"""The ground types: frozen values with a shape beside each field.

Letters in shapes: n texts, r token rows (a long text may own several), t tokens,
b batch, w width, h hidden size, c classes, k stages, m tiers, g groups.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.scalars import plain

if TYPE_CHECKING:
    import torch

FORMER_METRICS = {"latency": "text_cost"}  # names of before, which are still read
MOST_SURE = 0.9999  # the greatest confidence that is certified
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
    """The promise: a metric of `adaptive.policy.metrics`, and the level that it keeps.

    With a `group`, it holds in each of that column's groups by itself, of its own texts and of
    the full tier's accuracy there; hence for any mix of them, the mean over all texts included.
    """

    metric: str
    level: float
    confidence: float = 0.95
    group: str | None = None  # a column of the data; `label`: each class, by its true label
    bound: float | None = None  # of text_cost, in milliseconds

    def __post_init__(self) -> None:
        """Numbers of numpy and torch become Python's, a metric's former name its own."""
        object.__setattr__(self, "metric", metric_now(self.metric))
        for name in ("level", "confidence", "bound"):
            object.__setattr__(self, name, plain(getattr(self, name)))


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

    def _repr_html_(self) -> str:
        """As notebooks show it: what each switched-on stage asks for. Stages are numbers here."""
        from adaptive.display import card

        on = [k for k in range(len(self.thresholds)) if self.on(k)]
        rows = [(f"stage {k}", f"answers from {self.thresholds[k]:.4g} on") for k in on[:-1]]
        rows += [(f"stage {k}", "answers whatever is left") for k in on[-1:]]
        if self.risk_weight is not None:
            rows.insert(0, ("entry", f"by the router, risk weight {self.risk_weight:.4g}"))
        if self.abstain != ALWAYS:
            rows.append(("left to a person", f"below {self.abstain:.4g} at the last stage"))
        return card(f"Policy over tiers {', '.join(map(str, self.path))}", rows)

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


Rows = NDArray[np.integer] | slice  # some of the texts


@dataclass(frozen=True, slots=True)
class Worth:
    """What every stage's answers are worth. It knows nothing of what an answer is."""

    score: NDArray[np.float32]  # [n, k] in [0, 1], 1 is right; NaN in rows where it is not known
    alike: NDArray[np.float32]  # [n, k] in [0, 1], 1 where the answer is the reference's
    reference: NDArray[np.float32]  # [n] the reference's score; NaN where it is not known
    exact: bool  # all of these are 0 or 1, so that exact tests apply
    # the reference is the last stage's own answer. Not so where the full tier is served otherwise
    # than it is held to: in int8, or in half precision
    own: bool = True

    @property
    def known(self) -> bool:
        """Whether every row has its scores."""
        return not bool(np.isnan(self.reference).any())

    @property
    def alike_exact(self) -> bool:
        """Whether likeness to the reference is 0 or 1 for each answer, whatever scores are."""
        return self.exact or bool(((self.alike == 0.0) | (self.alike == 1.0)).all())

    def take(self, rows: Rows) -> Worth:
        """That of the given texts."""
        parts = {name: getattr(self, name)[rows] for name in ("score", "alike", "reference")}
        return replace(self, **parts)


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
class Classes:
    """What a classifier's stages answered; `adaptive.policy.worth` makes a `Worth` of it."""

    predictions: NDArray[np.int32]  # [n, k]
    labels: NDArray[np.int32]  # [n], -1 where unknown
    # [n] answers of the full tier in float32 in torch, where it is served otherwise; else None
    in_float32: NDArray[np.int32] | None = None

    @property
    def reference(self) -> NDArray[np.int32]:
        """The full tier's answers in float32, [n]: what all others are held to."""
        return self.predictions[:, -1] if self.in_float32 is None else self.in_float32

    def take(self, rows: Rows) -> Classes:
        """Those of the given texts."""
        exact = None if self.in_float32 is None else self.in_float32[rows]
        return Classes(self.predictions[rows], self.labels[rows], exact)


@dataclass(frozen=True, slots=True)
class Usage:
    """What each stage's answer took, as it was recorded; costs are read from it."""

    tokens_in: NDArray[np.int64] | None = None  # [n, k] of the prompt, cached ones included
    tokens_out: NDArray[np.int64] | None = None  # [n, k] of the answer
    tokens_cached: NDArray[np.int64] | None = None  # [n, k] of the prompt, read from a cache
    milliseconds: NDArray[np.float64] | None = None  # [n, k]
    dollars: NDArray[np.float64] | None = None  # [n, k]

    def take(self, rows: Rows) -> Usage:
        """That of the given texts."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        return Usage(**{k: None if v is None else v[rows] for k, v in columns.items()})


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """What every stage would answer for held-out texts, so that any policy is a look-up."""

    stages: tuple[Stage, ...]  # [k]
    worth: Worth
    reliability: NDArray[np.float32]  # [n, k]
    risk: NDArray[np.float32]  # [n, m] the router's estimate, zeros without a router
    tokens: NDArray[np.int64]  # [n] tokens of each text
    groups: Mapping[str, Groups] = field(default_factory=dict)  # by column
    classes: Classes | None = None  # of a classifier, whose worth they are
    usage: Usage | None = None  # of stages whose costs are not read by length
    sampled: Sampled | None = None  # where labels were asked for, else None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def predictions(self) -> NDArray[np.int32]:
        """The classes that stages answered, [n, k]."""
        return self._classes.predictions

    @property
    def labels(self) -> NDArray[np.int32]:
        """The true classes, [n], -1 where unknown."""
        return self._classes.labels

    @property
    def reference(self) -> NDArray[np.int32]:
        """The classes that all answers are held to, [n]."""
        return self._classes.reference

    @property
    def _classes(self) -> Classes:
        if self.classes is None:
            raise ValueError("this outcome table holds no classes, only what answers are worth")
        return self.classes

    def take(self, rows: Rows) -> OutcomeTable:
        """The given texts, in the given order."""
        columns = ("reliability", "risk", "tokens")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in columns},
            worth=self.worth.take(rows),
            groups={name: each.take(rows) for name, each in self.groups.items()},
            classes=None if self.classes is None else self.classes.take(rows),
            usage=None if self.usage is None else self.usage.take(rows),
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a policy did with each text."""

    stage: NDArray[np.int32]  # [n] the stage that answered
    entry: NDArray[np.int32]  # [n] the tier entered
    answered: NDArray[np.bool_]  # [n] not left to a person
    score: NDArray[np.float64]  # [n] of the stage's answer, be it given or not; NaN where unknown
    alike: NDArray[np.float64]  # [n] likewise, its sameness with the reference
    cost: NDArray[np.float64]  # [n]

    def take(self, rows: NDArray[np.integer]) -> Evaluation:
        """What it did with the given texts."""
        return Evaluation(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What each piece of the cascade costs each text, in one unit: ms, layers x tokens, dollars.

    A policy's cost is a sum of these, see `adaptive.policy.lookup.evaluate`.
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

    label: NDArray[np.int32]  # [b] the one of the greatest score: of classes, the likeliest
    score: NDArray[np.float32]  # [b] that score: of classes, its probability
    probabilities: NDArray[np.float32] | None  # [b, c] scores, where they were asked for
    stage: NDArray[np.int32]  # [b] the stage that answered
    entry: NDArray[np.int32]  # [b] the tier entered
    reliability: NDArray[np.float32]  # [b] NaN where the answering stage is not asked for it
