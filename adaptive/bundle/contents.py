"""What a bundle holds, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.layout import LAYOUT, checked_name
from adaptive.errors import BundleError
from adaptive.routers.features import SCALARS
from adaptive.tasks import SINGLE_LABEL, TASKS, Task
from adaptive.text.redact import Kinds
from adaptive.types import OutcomeTable, Policy, Stage, Target

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from adaptive.certificate.promises import Certificate
    from adaptive.exits.reliability import Reliability
    from adaptive.policy.costs import CostTable
    from adaptive.routers import Router
    from adaptive.tiers.tier import Tier


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """One policy of the front that was searched, from safe to cheap."""

    name: str
    policy: Policy
    figures: Mapping[str, float] = field(default_factory=dict)  # as found on the search rows


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A cascade with everything it needs to answer, and what is known of it.

    `info` is JSON for people and for the model card. Keys with a meaning: `license`,
    `language`, `base_model`, `datasets`, `device`, `dtype`, `versions`, `steps` (how it was
    built, a list of sentences) and `figures` (a report of `adaptive.measure.evaluation`).
    """

    name: str
    labels: tuple[str, ...]  # [c] names of a head's outputs, in their order
    tokenizer: PreTrainedTokenizerBase
    tiers: tuple[Tier, ...]  # [m] in order of execution
    reliability: Reliability
    router: Router | None
    log_frequency: NDArray[np.floating]  # [V] of each token in the training texts
    policy: Policy
    targets: tuple[Target, ...]  # all are to hold
    max_length: int  # tokens of a row, special ones included
    ladder: tuple[LadderEntry, ...] = ()
    costs: CostTable | None = None
    outcomes: Mapping[str, OutcomeTable] = field(default_factory=dict)  # by split
    info: Mapping[str, Any] = field(default_factory=dict)
    certificate: Certificate | None = None  # None: nothing is promised, or nobody asked for it
    # hashes of the rows that training, fit and search used, ascending; None: not known
    seen: NDArray[np.uint64] | None = None
    task: Task = SINGLE_LABEL  # what an answer is
    redact: Kinds = ()  # personal data that texts lose before the tokenizer sees them

    def __repr__(self) -> str:
        """The name and the tiers; not their weights."""
        tiers = ", ".join(f"{tier.name} ({tier.depths[-1]} layers)" for tier in self.tiers)
        return f"<Bundle {self.name}: {tiers}; {len(self.labels)} labels>"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every exit of every tier, in order of execution, [k]."""
        return stages_of(tuple(tier.depths for tier in self.tiers))

    @property
    def device(self) -> torch.device:
        """Where the cascade runs."""
        return self.reliability.temperature.device

    @property
    def dtype(self) -> str:
        """Of the tiers' weights, see `dtype_of`."""
        return dtype_of(self.tiers)

    @property
    def pad_id(self) -> int:
        """Token that fills rows up. Never attended to, so any will do where there is none."""
        return int(self.tokenizer.pad_token_id or 0)


@cache
def stages_of(depths: tuple[tuple[int, ...], ...]) -> tuple[Stage, ...]:
    """Stages of tiers that have exits at the given depths."""
    return tuple(
        Stage(tier, index, depth)
        for tier, own in enumerate(depths)
        for index, depth in enumerate(own)
    )


def dtype_of(tiers: Sequence[Tier]) -> str:
    """Of the tiers' weights, as torch calls it, and which tiers run otherwise beside it."""
    dtypes = [str(each.backbone.embedding_table.dtype).removeprefix("torch.") for each in tiers]
    name, ways = dtypes[-1], dict[str, list[str]]()
    for tier, dtype in zip(tiers, dtypes, strict=True):
        if dtype != name:
            ways.setdefault(dtype, []).append(tier.name)
    ways |= {
        "int8": [tier.name for tier in tiers if tier.int8],
        "ONNX Runtime": [tier.name for tier in tiers if tier.in_graphs],
    }
    return ", ".join([name, *(f"{way} in {' and '.join(of)}" for way, of in ways.items() if of)])


def check(bundle: Bundle) -> None:
    """Check that the parts fit each other.

    Raises:
        BundleError: they do not; the message names the file of the part at fault.
    """
    check_title(bundle.name)
    check_labels(bundle.labels, LAYOUT.header, least_labels(bundle.task.name, LAYOUT.header))
    check_max_length(bundle.max_length)
    check_tiers([tier.name for tier in bundle.tiers])
    for tier in bundle.tiers:
        _check_tier(tier, bundle)
    for split, table in bundle.outcomes.items():
        if bundle.tiers[-1].int8 and table.worth.own:
            raise BundleError(
                f"{LAYOUT.outcomes(split)}: recorded with a full tier that is not in int8, unlike "
                "the bundle's"
            )
    stages, features = len(bundle.stages), len(bundle.task.features)
    if bundle.reliability.mean.shape[1] != features:
        raise BundleError(
            f"{LAYOUT.reliability}: reads {bundle.reliability.mean.shape[1]} features, but the "
            f"task {bundle.task.name} has {features}"
        )
    if bundle.reliability.stages != stages:
        raise BundleError(
            f"{LAYOUT.reliability}: fitted for {bundle.reliability.stages} stages, "
            f"but the tiers have {stages}"
        )
    _check_frequency(bundle.log_frequency, len(bundle.tokenizer))
    _check_router(bundle)
    if bundle.costs is not None:
        _check_costs(bundle.costs, stages, len(bundle.tiers))


def _check_tier(tier: Tier, bundle: Bundle) -> None:
    folder = LAYOUT.tier(tier.name)
    if tier.labels != bundle.labels:
        raise BundleError(
            f"{folder}/tier.json: its labels are {list(tier.labels)}, the bundle's are "
            f"{list(bundle.labels)}; names and order must be the same"
        )
    rows, tokens = len(tier.backbone.embedding_table), len(bundle.tokenizer)
    if rows < tokens:
        raise BundleError(
            f"{folder}: embeds {rows} tokens, but the tokenizer has {tokens}; "
            "they are not of one bundle"
        )


def _check_frequency(frequency: NDArray[np.floating], tokens: int) -> None:
    if frequency.ndim != 1 or len(frequency) < tokens:
        raise BundleError(
            f"{LAYOUT.frequency}: shape {list(frequency.shape)} for a tokenizer of {tokens} tokens"
        )
    if not np.isfinite(frequency).all():
        raise BundleError(f"{LAYOUT.frequency}: holds a value that is not finite")


def _check_router(bundle: Bundle) -> None:
    if bundle.router is None:
        policies = [bundle.policy, *(entry.policy for entry in bundle.ladder)]
        if any(policy.risk_weight is not None for policy in policies):
            raise BundleError(f"{LAYOUT.policy}: a policy routes, but there is no {LAYOUT.router}")
        return
    found = (bundle.router.inputs, bundle.router.tiers)
    expected = (bundle.tiers[0].backbone.hidden + len(SCALARS), len(bundle.tiers))
    if found != expected:
        raise BundleError(
            f"{LAYOUT.router}: reads {found[0]} features of {found[1]} tiers, "
            f"expected {expected[0]} of {expected[1]}"
        )


def least_labels(task: object, file: str) -> int:
    """How many names the outputs of a task's heads have at least.

    Raises:
        BundleError: there is no such task.
    """
    if not isinstance(task, str) or task not in TASKS:
        raise BundleError(f"{file}: no task is called {task!r}; known: {', '.join(TASKS)}")
    return 2 if task == SINGLE_LABEL.name else 1


def check_labels(labels: object, file: str, least: int = 2) -> tuple[str, ...]:
    """The label names, if there are at least so many different ones and all are text."""
    texts = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
    if not isinstance(labels, list | tuple) or not texts or len(labels) < least:
        told = "two names" if least == 2 else "one name"
        raise BundleError(f"{file}: `labels` must be a list of {told} or more")
    if len(set(labels)) != len(labels):
        raise BundleError(f"{file}: a label stands twice")
    return tuple(labels)


def check_tiers(names: object) -> tuple[str, ...]:
    """The tiers' names, if there is one at least and each can be a folder of its own."""
    if not isinstance(names, list) or not names:
        raise BundleError(f"{LAYOUT.header}: `tiers` must be a list of one name or more")
    names = [checked_name(name, LAYOUT.header) for name in names]
    # Some file systems do not tell capitals apart
    if len({name.lower() for name in names}) != len(names):
        raise BundleError(f"{LAYOUT.header}: tiers need names of their own, found {names}")
    return tuple(names)


def check_title(name: object) -> str:
    """The bundle's name, if it is one line of text."""
    if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200:
        return name
    raise BundleError(f"{LAYOUT.header}: `name` must be one line of 1 to 200 characters")


def check_max_length(length: object) -> int:
    """Tokens of a row, if it is a whole number above 0."""
    if type(length) is int and length > 0:
        return length
    raise BundleError(f"{LAYOUT.header}: `max_length` must be a whole number above 0")


def _check_costs(costs: CostTable, stages: int, tiers: int) -> None:
    if costs.lengths.ndim != 1 or len(costs.lengths) < 2 or (np.diff(costs.lengths) <= 0).any():
        raise BundleError(f"{LAYOUT.costs}: `lengths` must be two or more, ascending")
    lengths = len(costs.lengths)
    shapes = {
        "embed": (tiers, lengths),
        "segment": (stages, lengths),
        "head": (stages, lengths),
        "router": (lengths,),
    }
    for name, shape in shapes.items():
        found = getattr(costs, name)
        if found.shape != shape or not np.isfinite(found).all():
            raise BundleError(
                f"{LAYOUT.costs}: `{name}` must be finite and of shape {list(shape)}, "
                f"found {list(found.shape)}"
            )
