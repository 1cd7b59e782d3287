"""The recipe: everything a build is told, as one frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from adaptive.config.fields import Count, Name, Section, Size, Whole
from adaptive.config.steps import (
    CertificateConfig,
    CostConfig,
    ExitsConfig,
    ExportConfig,
    FullConfig,
    MidConfig,
    QuantiseConfig,
    RouterConfig,
    SearchConfig,
    TargetConfig,
    TargetsConfig,
    TeacherConfig,
    TinyConfig,
)
from adaptive.config.task import SingleLabelConfig, TaskConfig
from adaptive.config.tiers import (
    CheckpointTier,
    SmallTier,
    TierConfig,
    listed,
    tier_faults,
)
from adaptive.policy.metrics import METRICS, metric_of
from adaptive.runners import AUTO, PLAIN, RUNNERS
from adaptive.text.redact import Kinds
from adaptive.types import Target

Tiers = Annotated[tuple[TierConfig, ...], Field(min_length=1)] | None
OnBadRow = Literal["stop", "skip"]
_GRADED = "score_drop"
_OF_SCORES = {"accuracy": "score", "accuracy_drop": _GRADED}


class SplitSizes(Section):
    """Rows (whole numbers) or shares (below 1) of each split; None = what the source gives."""

    train: Size | None = None
    fit: Size | None = None
    search: Size | None = None
    certify: Size | None = None
    test: Size | None = None
    from_train: Whole | None = None  # rows that leave train and join the validation rows


class DataConfig(Section):
    """A source of text: a file, a folder, `package:<name>`, or a hub data set's id.

    A file is CSV (also with tabs or semicolons), JSONL or JSON, packed by gzip or not, or Parquet.
    """

    source: Name
    file: Name | None = None  # inside a package or folder
    name: Name | None = None  # a hub data set's configuration
    revision: Name | None = None
    text: Name = "text"  # column
    pair: Name | None = None  # column of the second text
    label: Name | None = "label"  # column; None = unlabelled
    where: dict[str, str] = Field(default_factory=dict)  # column -> the value a row must have
    rename: dict[str, str] = Field(default_factory=dict)  # raw label -> name, in label order
    limit: Whole | None = None  # rows taken
    on_bad_row: OnBadRow = "stop"  # or leave out, and tell, rows that cannot be read or have gaps
    splits: SplitSizes = SplitSizes()
    seed: Count | None = None  # of the splits; None = the recipe's
    unlabelled: tuple[DataConfig, ...] = ()  # text for distillation
    # texts without labels that search and certify are dealt from; labels are asked for where they
    # decide, see `adaptive.training.ask_labels`
    pool: DataConfig | None = None

    @field_validator("unlabelled", mode="before")
    @classmethod
    def _without_labels(cls, sources: Any) -> Any:
        if not isinstance(sources, list | tuple):
            return sources
        return [{"label": None, **each} if isinstance(each, dict) else each for each in sources]

    @field_validator("pool", mode="before")
    @classmethod
    def _pool_without_labels(cls, source: Any) -> Any:
        return {"label": None, **source} if isinstance(source, dict) else source

    @field_validator("unlabelled")
    @classmethod
    def _plain(cls, sources: tuple[DataConfig, ...]) -> tuple[DataConfig, ...]:
        for index, source in enumerate(sources):
            if given := source.without_use:
                raise ValueError(f"source {index} has no use for {', '.join(given)}")
        return sources

    @field_validator("pool")
    @classmethod
    def _plain_pool(cls, source: DataConfig | None) -> DataConfig | None:
        if source is not None and (given := source.without_use):
            raise ValueError(f"has no use for {', '.join(given)}")
        return source

    @property
    def without_use(self) -> list[str]:
        """Fields that are given and mean nothing to texts without labels."""
        given = [key for key in ("label", "rename", "unlabelled", "pool") if getattr(self, key)]
        return given + ["splits"] * (self.splits != SplitSizes())

    @model_validator(mode="after")
    def _shares_fit(self) -> DataConfig:
        shares = [each for _, each in self.splits if isinstance(each, float)]
        if sum(shares) > 1 + 1e-9:
            raise ValueError(f"the shares of splits add up to {sum(shares):g}, more than 1")
        return self


class ModelConfig(Section):
    """The full tier's checkpoint: a hub id, a folder, or `package:<name>`."""

    id: Name
    revision: Name | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of the weights
    max_length: Whole | None = None  # tokens; None = as many as the checkpoint reads
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the training's autocast


def _plain(name: str) -> str:
    """Raise ValueError unless a folder may be called so on any system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{name!r} would name folders; expected letters a to z, digits, '.', '_' and '-', a "
            "letter or digit first. Texts, columns and labels may be of any script"
        )
    return name


class Recipe(Section):
    """A build, from data to bundle."""

    name: Annotated[str, Field(max_length=96), AfterValidator(_plain)]
    seed: Count = 0
    model: ModelConfig
    data: DataConfig
    task: TaskConfig = SingleLabelConfig()  # what an answer is
    # personal data that texts lose before anything reads them, here and where the bundle serves
    redact: Kinds = ()
    tiers: Tiers = None  # cheapest first, the checkpoint last; None = by the sections below
    full: FullConfig = FullConfig()
    teacher: TeacherConfig = TeacherConfig()
    mid: MidConfig | None = None
    tiny: TinyConfig | None = None
    exits: ExitsConfig = ExitsConfig()
    quantise: QuantiseConfig = QuantiseConfig()
    export: ExportConfig = ExportConfig()
    router: RouterConfig = RouterConfig()
    target: TargetsConfig = TargetConfig()  # one, or a list of which all must hold
    search: SearchConfig = SearchConfig()
    certificate: CertificateConfig | None = CertificateConfig()  # None = a held-out choice
    cost: CostConfig = CostConfig()
    # where losses go: to TensorBoard, where it is installed, or beside it to Weights & Biases
    tracking: Literal["tensorboard", "wandb"] = "tensorboard"
    output: Name  # folder of the bundle
    license: Name | None = None  # of the bundle, for its card
    language: Name | None = None
    description: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _graded_target(cls, values: Any) -> Any:
        """Where losses are graded, a target without a metric is about scores."""
        if not isinstance(values, Mapping) or not _is_graded(values.get("task")):
            return values
        target = values.get("target", {})
        if isinstance(target, Mapping):
            return {**values, "target": {"metric": _GRADED, **target}}
        return values

    @field_validator("redact")
    @classmethod
    def _different(cls, kinds: Kinds) -> Kinds:
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"a kind stands twice in {list(kinds)}")
        return kinds

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        faults = tier_faults(self)
        if self.tiers is None or not faults:
            own = [*_task_faults(self), *_label_faults(self), *_target_faults(self)]
            faults = [*own, *faults]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def small(self) -> tuple[SmallTier, ...]:
        """The tiers before the checkpoint, cheapest first."""
        return listed(self)[0]

    @property
    def last(self) -> CheckpointTier:
        """The checkpoint, the last tier: how it is tuned and served."""
        return listed(self)[1]

    @property
    def served(self) -> dict[str, str]:
        """Name of each tier, cheapest first -> what runs its layers: the quickest runner here
        where the recipe does not say, but torch in another dtype than float32.
        """
        usual = AUTO if self.cost.dtype == "float32" else PLAIN
        return {each.name: each.serve or usual for each in (*self.small, self.last)}

    @property
    def int8(self) -> tuple[str, ...]:
        """Names of the tiers that the recipe says are served in int8."""
        return tuple(n for n, each in self.served.items() if each != AUTO and RUNNERS[each].int8)

    @property
    def exported(self) -> tuple[str, ...]:
        """Names of the tiers that the recipe says ONNX Runtime serves."""
        return tuple(n for n, each in self.served.items() if each != AUTO and RUNNERS[each].graphs)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the tiers whose runner is measured and chosen by the build."""
        return tuple(name for name, each in self.served.items() if each == AUTO)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, all of which must hold."""
        return tuple(config.target() for _, config in _targets(self))

    @property
    def abstains(self) -> bool:
        """Whether policies may leave texts to nobody."""
        return any(metric_of(target).about == "abstention" for target in self.targets)

    @property
    def levels(self) -> tuple[float, ...]:
        """Further levels of the first target, each a promise of its own."""
        return () if self.certificate is None else self.certificate.levels

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data in whose groups targets must hold, `label` among them."""
        return tuple(sorted({each.group for each in self.targets if each.group is not None}))


def _is_graded(task: Any) -> bool:
    """Whether a task, as it is written, has losses between 0 and 1."""
    kind = task.get("kind") if isinstance(task, Mapping) else task
    subset = isinstance(task, Mapping) and task.get("loss") == "subset"
    return kind == "regression" or (kind == "multi_label" and not subset)


def _task_faults(recipe: Recipe) -> list[str]:
    """What does not go with the task."""
    task, faults = recipe.task, []
    if task.kind == "single_label":
        return []
    if recipe.data.pool is not None:
        faults.append(f"data.pool: labels of a {task.kind} task are not asked for; label its texts")
    if recipe.data.rename and not task.cells.named:
        faults.append(f"data.rename: the labels of a {task.kind} task are numbers without names")
    if recipe.search.losses != "labels":
        faults.append(
            f"search.losses: {recipe.search.losses} losses are those of exclusive classes; a "
            f"{task.kind} task has `labels`"
        )
    for path, target in _targets(recipe):
        if target.group == "label":
            faults.append(f"{path}.group: a text of a {task.kind} task is not of one class")
        if target.metric in _OF_SCORES and not task.exact:
            faults.append(
                f"{path}.metric: {target.metric} is about right and wrong answers, and the losses "
                f"of this task are graded; use {_OF_SCORES[target.metric]}"
            )
    return faults


def _targets(recipe: Recipe) -> list[tuple[str, TargetConfig]]:
    """Each target with its path in the recipe."""
    if isinstance(recipe.target, TargetConfig):
        return [("target", recipe.target)]
    return [(f"target.{index}", config) for index, config in enumerate(recipe.target)]


def _label_faults(recipe: Recipe) -> list[str]:
    if recipe.data.label is not None:
        return _pool_faults(recipe)
    faults = []
    if recipe.data.pool is not None:
        faults.append("data.pool: labels are asked of its texts, and data.label is null")
    for path, target in _targets(recipe):
        if METRICS[target.metric].labelled:
            faults.append(f"{path}.metric: {target.metric} needs labels, and data.label is null")
        if target.group == "label":
            faults.append(f"{path}.group: classes need labels, and data.label is null")
    if recipe.last.tune != "none":
        path = "full" if recipe.tiers is None else f"tiers.{len(recipe.small)}"
        faults.append(f"{path}.tune: {recipe.last.tune} needs labels, and data.label is null")
    return faults


def _pool_faults(recipe: Recipe) -> list[str]:
    """Promises that few labels cannot prove, where search and certify rows have none."""
    if recipe.data.pool is None:
        return []
    faults = []
    for path, target in _targets(recipe):
        drop = METRICS[target.metric].kind == "drop"
        if drop and target.group is None and len(recipe.targets) == 1:
            continue
        faults.append(
            f"{path}: of the texts of data.pool few are labelled, which serves one accuracy_drop "
            f"over all texts, found {target.metric}"
            + (f" in each {target.group}" if target.group else "")
        )
    if recipe.data.splits.from_train is not None:
        faults.append("data.splits.from_train: search and certify rows come from data.pool")
    return faults


def _target_faults(recipe: Recipe) -> list[str]:
    faults, level = [], recipe.targets[0].level
    found = sorted({target.confidence for target in recipe.targets})
    if len(found) > 1:
        told = " and ".join(f"{each:g}" for each in found)
        faults += [f"target: targets that must hold together share one confidence, found {told}"]
    if metric_of(recipe.targets[0]).about == "abstention":
        faults += ["target: abstention comes behind a target about the texts that are answered"]
    for path, target in _targets(recipe):
        metric = METRICS[target.metric]
        if metric.budget and "level" not in target.model_fields_set:
            faults += [f"{path}.level: a budget has to be named, in {target.metric}"]
        if metric.unit not in (None, METRICS[recipe.search.minimise].unit):
            unit = next(
                n for n, each in METRICS.items() if each.budget and each.unit == metric.unit
            )
            told = f"{target.metric} needs costs in {unit}, and search.minimise is"
            faults += [f"{path}.metric: {told} {recipe.search.minimise}"]
    if level in recipe.levels:
        faults += [f"certificate.levels: {level:g} is the target's own; name others"]
    first = recipe.targets[0].metric
    wrong = (METRICS[first].level_fault(first, each) for each in recipe.levels)
    return faults + [f"certificate.levels: {each}" for each in wrong if each]
