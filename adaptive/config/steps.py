"""What each step of a build is told: one section a step.

Where a section gives no `epochs`, training counts optimiser steps and stops early: see
`adaptive.training.epochs`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from adaptive.config.fields import (
    ONE,
    SEVERAL,
    Count,
    Depths,
    Float,
    Lengths,
    Name,
    NotNegative,
    PartShare,
    Positive,
    Section,
    Share,
    Whole,
    one_or_several,
)
from adaptive.config.targets import Bound, Confidence, Level, MetricName
from adaptive.types import Target


class LoraConfig(Section):
    """Low-rank adapters, read where `full.tune` is `lora` or `adalora`."""

    rank: Whole = 8  # of each matrix; of AdaLoRA the mean that is left of them
    alpha: Whole = 16
    dropout: PartShare = 0.0
    targets: tuple[Name, ...] | None = None  # module names; None = queries and values


class PrefixConfig(Section):
    """Learnt keys and values before those of each layer, read where `full.tune` is `prefix`."""

    tokens: Annotated[Whole, Field(le=512)] = 16  # that every text seems to begin with


class FullConfig(Section):
    """The full tier: how it is fine-tuned and where its exits stand."""

    layered: ClassVar[bool] = True
    # none: taken as it is
    tune: Literal["full", "lora", "adalora", "prefix", "none"] = "full"
    epochs: Whole | None = None
    learning_rate: Positive = 3e-4
    batch_size: Whole = 32
    weight_decay: NotNegative = 0.01
    warmup: PartShare = 0.1  # share of the steps
    lora: LoraConfig = LoraConfig()
    prefix: PrefixConfig = PrefixConfig()
    exits: Depths = None


class TeacherConfig(Section):
    """What the students learn from."""

    # made-up texts for each training text, labelled by the full tier; None = few texts get some,
    # unless a student's `epochs` are given
    augment: Count | None = None


class MidConfig(Section):
    """The mid tier: cut from the full one, then distilled back."""

    layered: ClassVar[bool] = True
    layers: Whole
    heads: Share = 1.0  # kept
    ffn: Share = 1.0  # kept feed-forward neurons
    # layers; None = the first, or the most important ones where epochs are given
    keep: Literal["first", "important"] | None = None
    multiple: Whole = 32  # feed-forward widths are rounded to it
    importance_batches: Whole = 16
    epochs: Whole | None = None
    learning_rate: Positive | None = None  # None = 5e-4, or 2e-4 where epochs are given
    batch_size: Whole = 32
    exits: Depths = None
    distill_weight: Annotated[Float, Field(ge=0, le=1)] = 0.7  # the rest is on the labels
    hidden_weight: NotNegative = 1.0  # of the loss between hidden states
    temperature: Positive = 2.0  # of the soft labels


class JointConfig(Section):
    """A tier of the full one's shape, whose layers go on learning with its exits."""

    layered: ClassVar[bool] = True
    exits: ClassVar[None] = None  # where the full tier's stand
    epochs: Whole | None = None
    learning_rate: Positive = 1e-4
    batch_size: Whole = 32
    distill_weight: Annotated[Float, Field(ge=0, le=1)] = 0.5  # the rest is on the labels
    temperature: Positive = 2.0  # of the soft labels


class BagConfig(Section):
    """A tiny tier without attention: an embedding bag, answered at depth 0."""

    # what is not chosen; transformers have fields or do otherwise
    layered: ClassVar[bool] = False
    exits: ClassVar[None] = None
    warmup: ClassVar[float] = 0.1  # share of the steps
    autocast: ClassVar[bool] = False  # a training in bfloat16 would gain nothing

    kind: Literal["bag"]
    width: Whole | None = None  # of the embeddings; None = the full tier's
    bigrams: Count = 0  # hash buckets; 0 = none
    hidden: Whole | None = None  # width of the head's hidden layer; None = a linear head
    epochs: Whole | None = None
    learning_rate: Positive = 2e-3
    batch_size: Whole = 64
    dropout: PartShare = 0.2
    weight_decay: NotNegative = 0.0
    distill_weight: Annotated[Float, Field(ge=0, le=1)] = 0.7
    temperature: Positive = 2.0


class TransformerConfig(Section):
    """A tiny tier that is a shallow, narrow transformer of the full tier's family."""

    layered: ClassVar[bool] = True
    dropout: ClassVar[float] = 0.0  # of the tokens: layers have their own
    autocast: ClassVar[bool] = True

    kind: Literal["transformer"]
    layers: Whole = 2
    hidden: Whole = 128
    heads: Whole = 4
    intermediate: Whole = 512
    epochs: Whole | None = None
    learning_rate: Positive = 5e-4
    batch_size: Whole = 32
    weight_decay: NotNegative = 0.01
    warmup: PartShare = 0.1
    exits: Depths = None
    distill_weight: Annotated[Float, Field(ge=0, le=1)] = 0.7
    temperature: Positive = 2.0


TinyConfig = Annotated[BagConfig | TransformerConfig, Field(discriminator="kind")]


WIDEST = 1024  # of a head whose width is `auto`: heads at all depths of a wide model would be large


class ExitsConfig(Section):
    """Exit heads fitted on frozen backbones."""

    # of a hidden layer; auto = as many as the states have, within WIDEST; None = linear heads
    head_width: Whole | Literal["auto"] | None = "auto"
    epochs: Whole | None = None
    learning_rate: Positive = 1e-3
    batch_size: Whole = 64

    def width(self, hidden: int) -> int | None:
        """Hidden units of heads on states of this width; None for linear heads."""
        return min(hidden, WIDEST) if self.head_width == "auto" else self.head_width


class LayersConfig(Section):
    """The tiers whose layers are served in another way; exits and embeddings are torch's."""

    tiers: tuple[Literal["tiny", "mid", "full"], ...] = ()

    @field_validator("tiers")
    @classmethod
    def _different(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tiers)) < len(tiers):
            raise ValueError(f"a tier stands twice in {list(tiers)}")
        return tiers


class QuantiseConfig(LayersConfig):
    """The tiers whose layers multiply in int8, on a CPU; exits and embeddings stay float32."""


class ExportConfig(LayersConfig):
    """The tiers whose layers are run by ONNX Runtime, on a CPU."""


class RouterConfig(Section):
    """The routers that are tried, and what one must save to be packed."""

    candidates: tuple[Literal["logistic", "mlp", "knn", "trees"], ...] = (
        "logistic",
        "mlp",
        "knn",
        "trees",
    )
    min_gain: PartShare = 0.02  # share of the cost without a router


class TargetConfig(Section):
    """The promise, see `adaptive.types.Target`."""

    metric: MetricName = "accuracy_drop"
    level: Level = 0.01  # a budget has to be named
    confidence: Confidence = 0.95
    group: Name | None = None  # a column: it must hold in each group; `label`: in each class
    bound: Bound = None  # of text_cost, in milliseconds

    def target(self) -> Target:
        """The same as the ground type."""
        return Target(self.metric, self.level, self.confidence, self.group, self.bound)


_Several = Annotated[tuple[TargetConfig, ...], Field(min_length=1)]
TargetsConfig = Annotated[
    Annotated[TargetConfig, Tag(ONE)] | Annotated[_Several, Tag(SEVERAL)],
    Discriminator(one_or_several),
]


class SearchConfig(Section):
    """The policy search."""

    minimise: Literal["milliseconds", "work"] = "milliseconds"  # what costs are counted in
    sweeps: Whole = 8  # rounds of coordinate descent
    # of answers unlike the full tier's: as labelled, or as all tiers together expect them, which
    # is steadier and may be wrong (`adaptive.training.smooth`); auto: the front's line is searched
    # by both, and cross-validation on the search rows chooses (`adaptive.policy.freedom`)
    losses: Literal["labels", "expected", "auto"] = "labels"
    margin: NotNegative = 2.0  # standard errors to spare; orders the search, promises nothing


class CertificateConfig(Section):
    """The certificate; losses of 0 and 1 always have the exact test."""

    # of the signed drop; budgets have the betting test in place of the exact one
    test: Literal["paired", "betting", "hoeffding_bentkus"] = "paired"
    levels: tuple[NotNegative, ...] = ()  # more, of the first target
    looks: Whole = 1  # designs planned to be tested on these rows, each at delta over their number

    @field_validator("levels")
    @classmethod
    def _different(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(levels)) < len(levels):
            raise ValueError(f"a level stands twice in {list(levels)}")
        return levels


class CostConfig(Section):
    """The cost table's measurements."""

    batch_size: Whole = 32
    # tokens, costs between them are interpolated; None = doublings up to the longest row
    lengths: Lengths | None = None
    repeats: Whole = 5
    dtype: Literal["float32", "bfloat16"] = "float32"
