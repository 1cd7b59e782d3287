"""What a caller may choose: preset, device and dtype of a pipeline, and the options of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from adaptive.bundle.contents import Bundle
from adaptive.bundle.ladder import ladder_of
from adaptive.config import Preset, TargetChoice, load_preset
from adaptive.config.faults import nearest
from adaptive.config.targets import show_target
from adaptive.errors import ConfigError, TargetError
from adaptive.scalars import is_whole, plain
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tasks.base import Function
from adaptive.types import Policy, Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Overflow = Literal["truncate", "error", "windows"]
OnFault = Literal["raise", "return"]
TopK = int | Literal[""] | None  # "" = left out, which transformers tells from 1

# Other words for the same; "only_first" and "only_second" are none, no row is cut like that.
_TRUNCATION: Mapping[Any, Overflow] = {"longest_first": "truncate", "do_not_truncate": "error"}
_PADDING = (None, True, False, "longest", "max_length", "do_not_pad")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Options:
    """One call's options, settled."""

    top_k: TopK
    batch_size: int
    overflow: Overflow
    errors: OnFault
    function: Function | None  # of scores; None for as they are
    length: int  # tokens of a row at most

    @property
    def nested(self) -> bool:
        """Whether an item's answer is a list of labels and not the best one alone."""
        return self.top_k != ""


def call_options(
    preset: Preset,
    *,
    top_k: TopK,
    batch_size: int | None,
    truncation: bool | str | None,
    errors: OnFault | None,
    function_to_apply: str | None,
    padding: Any,
    length: int,
    task: Task = SINGLE_LABEL,
) -> Options:
    """A call's options, the preset's where the caller gave none.

    Args:
        length: as `choose_length` settles it.
        task: what the answers are.

    Raises:
        ValueError: an option has a value it cannot have.
    """
    top_k, batch_size, cut = plain(top_k), plain(batch_size), plain(truncation)
    if top_k not in ("", None) and not _counts(top_k):
        raise ValueError(f"top_k is {top_k!r}; expected 1 or more, or None for all labels")
    if batch_size is not None and not _counts(batch_size):
        raise ValueError(f"batch_size is {batch_size!r}; expected 1 or more")
    if isinstance(cut, bool):
        cut = "truncate" if cut else "error"
    cut = _TRUNCATION.get(cut, cut)
    if cut is not None and cut not in get_args(Overflow):
        raise ValueError(
            f"truncation is {cut!r}; expected True, False, 'truncate', 'error' or 'windows'"
        )
    if errors is not None and errors not in get_args(OnFault):
        raise ValueError(f"errors is {errors!r}; expected 'raise' or 'return'")
    if plain(padding) not in _PADDING:
        known = ", ".join(map(repr, _PADDING))
        raise ValueError(f"padding is {padding!r}; expected one of {known}; none changes anything")
    return Options(
        top_k,
        batch_size or preset.batch_size,
        cut or preset.overflow,
        errors or preset.errors,
        _function(function_to_apply, task),
        length,
    )


def _function(function: str | None, task: Task) -> Function | None:
    """What is done to scores, None for nothing."""
    return task.function(function.lower() if isinstance(function, str) else function)


def choose_length(bundle: Bundle, max_length: int | None) -> int:
    """Tokens of a row at most; None for the bundle's own.

    Raises:
        ValueError: no whole number with room for a token, or more than the bundle's.
    """
    wanted = plain(max_length)
    if wanted is None:
        return bundle.max_length
    special = bundle.tokenizer.num_special_tokens_to_add()
    if not is_whole(wanted) or not special < wanted <= bundle.max_length:
        raise ValueError(
            f"max_length is {max_length!r}; expected from {special + 1} ({special} tokens are "
            f"special) to {bundle.max_length}, which this bundle was built for"
        )
    return int(wanted)


def own_model(bundle: Bundle) -> PreTrainedModel:
    """The full tier's transformers model.

    Raises:
        AttributeError: none answers as the full tier does.
    """
    tier = bundle.tiers[-1]
    where = f"pipeline.bundle.tiers[{len(bundle.tiers) - 1}]"
    if not tier.own_head:
        raise AttributeError(
            f"no transformers model answers as tier {tier.name!r} does: its heads, trained by the "
            f"build, are beside the model in {where}. pipeline.bundle.labels are the labels"
        )
    if tier.in_graphs:
        raise AttributeError(
            f"ONNX Runtime runs tier {tier.name!r}, and no transformers model is loaded; "
            "adaptive.tiers.store.in_torch gives the tier with one"
        )
    backbone: Any = tier.backbone
    model: PreTrainedModel = backbone.model
    return model


def open_preset(
    source: str | Path | Mapping[str, Any] | Preset,
    target: Target | Mapping[str, Any] | str | None = None,
) -> Preset:
    """A preset from its YAML or mapping, or one with nothing but a bundle's folder or hub id.

    Args:
        target: in place of the preset's.

    Raises:
        ConfigError: with every fault.
    """
    preset = _open(source)
    if target is None:
        return preset
    return load_preset({**preset.model_dump(exclude_unset=True), "target": target})


def _open(source: str | Path | Mapping[str, Any] | Preset) -> Preset:
    if isinstance(source, Preset):
        return source
    if isinstance(source, Mapping):
        return load_preset(source)
    if not isinstance(source, str | Path):
        raise ConfigError(
            "expected a preset (a YAML file or a mapping), a bundle's folder or a hub id, "
            f"found {type(source).__name__}"
        )
    if str(source).lower().endswith((".yaml", ".yml")) and not Path(source).is_dir():
        return load_preset(source)
    return load_preset({"bundle": str(source)})


def choose_promise(bundle: Bundle, choice: TargetChoice | None) -> Bundle:
    """The bundle with another promise of its certificate in the first place; None changes nothing.

    Policy, ladder and targets are then that promise's.

    Raises:
        TargetError: the promise is not among those of the certificate, or was not proved; those
            that were are listed.
    """
    if choice is None:
        return bundle
    certificate = bundle.certificate
    if certificate is None:
        raise TargetError(
            f"bundle {bundle.name!r} has no certificate, or was opened without it, so no target "
            "can be chosen"
        )
    confidence = choice.confidence or certificate.target.confidence
    wanted = Target(choice.metric, choice.level, confidence, choice.group, choice.bound)
    found = certificate.at(wanted)
    if found is not None and found.verdict != "NOT CERTIFIED":
        return replace(
            bundle,
            targets=found.targets,
            policy=found.policy,
            ladder=ladder_of(found.front),
            certificate=found,
        )
    promises = (certificate, *certificate.further)
    proved = [show_target(each.target) for each in promises if each.verdict != "NOT CERTIFIED"]
    why = "it is none of its promises" if found is None else found.headline
    raise TargetError(
        f"bundle {bundle.name!r} is not certified for {show_target(wanted)} at a confidence of "
        f"{confidence:g}: {why}. Certified: {', '.join(proved) or 'nothing'}"
    )


def choose_policy(bundle: Bundle, name: str | None) -> Policy:
    """The policy of that name on the bundle's ladder; None is the chosen one.

    Raises:
        TargetError: the ladder has none of that name, those it has are listed; or the bundle's
            certificate does not cover it.
    """
    if name is None:
        return bundle.policy
    ladder = {entry.name: entry.policy for entry in bundle.ladder}
    if name not in ladder:
        raise TargetError(
            f"no policy {name!r} on the ladder of bundle {bundle.name!r}"
            + (nearest(name, list(ladder)) or ", which is empty")
        )
    certificate, policy = bundle.certificate, ladder[name]
    if certificate is not None and not certificate.covers(policy):
        raise TargetError(
            f"policy {name!r} is not certified; those that are come before it on the ladder. "
            "Open the bundle with uncertified=True to have it answer unpromised"
        )
    return policy


def choose_stride(bundle: Bundle, preset: Preset) -> int:
    """Tokens that neighbouring windows share; a preset that tells none gets a quarter at most.

    Raises:
        ConfigError: the preset's stride leaves no room for anything new in a window.
    """
    if "stride" not in preset.model_fields_set:
        return min(preset.stride, bundle.max_length // 4)
    room = bundle.max_length - bundle.tokenizer.num_special_tokens_to_add()
    if preset.stride >= room:
        raise ConfigError(
            f"stride: {preset.stride} is too much for windows of {bundle.max_length} tokens, "
            f"{bundle.max_length - room} of them special; expected less than {room}"
        )
    return preset.stride


def stride_within(stride: int, length: int, bundle: Bundle) -> int:
    """The stride of windows of this length: of less than the bundle's a quarter at most."""
    return stride if length >= bundle.max_length else min(stride, length // 4)


def choose_device(device: str | int | torch.device) -> torch.device:
    """transformers' ways to name a device: a number is an accelerator, -1 the CPU.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    device = plain(device)
    if isinstance(device, int):
        device = "cpu" if device < 0 else f"{'mps' if _mps() else 'cuda'}:{device}"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device: {device!r} is none of auto, cpu, cuda, cuda:<n>, mps") from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_mps())}
    if found.type not in counts:
        raise ConfigError(f"device: {found.type!r} is none of auto, cpu, cuda, cuda:<n>, mps")
    if (found.index or 0) >= counts[found.type]:
        raise ConfigError(
            f"device: {str(found)!r} is not there; of {found.type} devices that torch "
            f"{torch.__version__} can use, this machine has {counts[found.type]}"
        )
    return found


def choose_dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    """A dtype of weights; None ("auto") is the stored one.

    Raises:
        ConfigError: no dtype that a cascade runs in.
    """
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        return None
    if name not in _DTYPES:
        raise ConfigError(f"dtype: {name!r} is none of auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _counts(value: Any) -> bool:
    return is_whole(value) and bool(value >= 1)


def _mps() -> bool:
    return torch.backends.mps.is_available()
