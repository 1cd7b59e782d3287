"""Loading the model that a build starts from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging

from adaptive.errors import BuildError, BundleError, FamilyError
from adaptive.tasks import SINGLE_LABEL
from adaptive.tiers.adapters import (
    ADAPTER_WEIGHTS,
    find_base,
    head_rows,
    is_adapter,
    kept_shapes,
    merge,
)
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.families import family_of
from adaptive.tiers.find import digest, find_source
from adaptive.tiers.prefixes import CHILD
from adaptive.tiers.vocabulary import fit_table, load_tokenizer


def load_backbone(
    source: str,
    *,
    classes: int,
    labels: Sequence[str],
    raw: Sequence[str] = (),
    revision: str | None = None,
    sha256: str | None = None,
    dtype: torch.dtype = torch.float32,
    problem: str = SINGLE_LABEL.problem_type,
) -> tuple[Backbone, Any]:
    """A backbone with a head for the labels, and its tokenizer.

    A checkpoint fine-tuned on these labels keeps its head, its rows put into the order of
    `labels`; so does one that does not name its classes, if their number is right. Any other,
    and one of another task, gets an untrained head and `fresh_head` is true. An adapter of peft
    is merged into its base model; the head that it brings counts as the checkpoint's.

    Args:
        source: a folder of a model or of an adapter, `package:NAME` for a model carried by an
            installed package (which is not imported), or a hub id.
        classes: number of labels.
        labels: names in the order wanted of the logits.
        raw: what the data call each label, where they were renamed.
        revision: branch, tag or commit of a hub id.
        sha256: digest that model.safetensors must have; of an adapter its own weights.
        dtype: of the weights.
        problem: what the head is for, as `Task.problem_type` has it.

    Raises:
        BuildError: the source is not there, has no tokenizer of its own or no safetensors
            weights, or lacks some of them.
        BundleError: the weights have another digest.
        FamilyError: a family without adapter.
    """
    if len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} classes")
    folder = find_source(source, revision)
    base = find_base(folder)
    weights = base / "model.safetensors"
    if not weights.is_file() and not (base / "model.safetensors.index.json").is_file():
        which = f"model {source!r}" if base == folder else f"the base of adapter {source!r}"
        raise BuildError(f"{which} holds no model.safetensors; convert it first")
    if sha256 is not None:
        _check_digest(weights if base == folder else folder / ADAPTER_WEIGHTS, sha256)
    with quiet_transformers():
        config = read_config(folder)
        tokenizer = load_tokenizer(folder, source)
        order = None if other_task(config, problem) else _own_order(config, labels, raw)
        guessed = order is not None and _by_position(config, labels, raw)
        backbone = _load_model(
            folder, config, labels, dtype, keep_head=order is not None, problem=problem
        )
        backbone.guessed_order = guessed and not backbone.fresh_head
        fit_table(backbone, tokenizer, source)
    if order is not None and not backbone.fresh_head:
        _reorder_head(backbone, order)
    return backbone, tokenizer


def read_config(folder: Path) -> Any:
    """The transformers config in a folder, of a supported family.

    Of an adapter of peft it is the base model's, unless one lies beside the adapter, with as
    many classes as the head that the adapter brings.

    Raises:
        FamilyError: a family without adapter.
        BuildError: not a transformers config, or one that no model can be made of; or an
            adapter's base model is not there.
    """
    if not is_adapter(folder):
        return _config_in(folder)
    config = _config_in(folder if (folder / "config.json").is_file() else find_base(folder))
    rows = head_rows(folder, family_of(config).head)
    if rows is not None:
        config.architectures = None  # whatever the base was for
        if rows != config.num_labels:
            config.num_labels, config.problem_type = rows, None
    return config


def _config_in(folder: Path) -> Any:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = values.pop("model_type")
        family_of(SimpleNamespace(model_type=name))  # before any code of that name is looked for
        config = AutoConfig.for_model(name, **values)
    except FamilyError:
        raise
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise BuildError("config.json is not a transformers config") from error
    pad = getattr(config, "pad_token_id", None)
    if pad is not None and pad >= config.vocab_size:
        raise BuildError(
            f"config.json pads with token {pad}, and the embedding table has "
            f"{config.vocab_size} rows: a padding token was added without a row for it. Call "
            "model.resize_token_embeddings(len(tokenizer)) and save the model, or set "
            "pad_token_id to null"
        )
    return config


def untrained_model(config: Any, dtype: torch.dtype) -> Any:
    """A classifier with random weights.

    The dtype goes in here rather than through `.to()`, which would round rotary tables too.
    """
    make: Any = AutoModelForSequenceClassification.from_config
    return make(config, dtype=dtype)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Loading reports and progress bars of transformers off for a while."""
    chatter: Any = logging  # its functions are not typed
    verbosity = chatter.get_verbosity()
    bars = chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()


def _check_digest(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise BuildError("a digest can be checked of a single model.safetensors only")
    found = digest(weights)
    if found != expected.lower():
        raise BundleError(f"{weights.name} has SHA-256 {found}, expected {expected}")


def other_task(config: Any, wanted: str = SINGLE_LABEL.problem_type) -> str | None:
    """What a checkpoint's head does in place of what is wanted; None if nothing.

    A checkpoint without a classifier's head counts as well: transformers would draw one.

    Args:
        wanted: a `Task.problem_type`.
    """
    kinds = list(config.architectures or ())
    if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return f"it is a {kinds[0]}, not a classifier of texts (...ForSequenceClassification)"
    told, found = f"problem_type is {config.problem_type}", problem_of(config)
    if found == wanted:
        several = found == "regression" and config.num_labels != 1
        return f"its head gives {config.num_labels} numbers ({told})" if several else None
    if found == "regression":
        return (
            f"its head gives numbers and no classes (regression: {told}, num_labels is "
            f"{config.num_labels})"
        )
    if found == "multi_label_classification":
        return f"it gives a text several labels ({told})"
    return f"it chooses one of {config.num_labels} classes for a text ({told})"


def problem_of(config: Any) -> str:
    """What a config's head is for; one that does not say so counts outputs, as transformers does.

    One output is a number, several are classes that exclude each other.
    """
    if config.problem_type in ("regression", "multi_label_classification"):
        return str(config.problem_type)
    return "regression" if config.num_labels == 1 else SINGLE_LABEL.problem_type


def _own_order(config: Any, labels: Sequence[str], raw: Sequence[str] = ()) -> list[int] | None:
    """For each label, its row in the checkpoint's head; None if the head is of other labels.

    Names decide, those of the data before renaming too. Classes that the checkpoint does not
    name are taken in the order of the data's whole numbers (`7`, `class_7`), or else of the labels.
    """
    own = _class_names(config)
    for wanted in (labels, raw):
        order = _by_name(own, wanted)
        if order is not None:
            return order
    if len(own) != len(labels) or not _unnamed(own):
        return None
    return _by_number(raw or labels) or list(range(len(own)))


def _by_position(config: Any, labels: Sequence[str], raw: Sequence[str]) -> bool:
    """Whether nothing but the labels' own order tells which class is which."""
    own = _class_names(config)
    named = any(_by_name(own, wanted) is not None for wanted in (labels, raw))
    return not named and _by_number(raw or labels) is None


def _class_names(config: Any) -> list[str]:
    return [str(config.id2label[key]).casefold() for key in sorted(config.id2label)]


def _unnamed(own: Sequence[str]) -> bool:
    return list(own) == [f"label_{i}" for i in range(len(own))]


def _by_name(own: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Place of each wanted name among a checkpoint's, capitals aside."""
    names = [name.casefold() for name in wanted]
    if sorted(own) != sorted(names) or len(set(own)) < len(own):
        return None
    return [own.index(name) for name in names]


def _by_number(names: Sequence[str]) -> list[int] | None:
    """Rank of each name among the others, if all are whole numbers, or alike but for one."""
    found = [re.fullmatch(r"(-?|\D*)(\d+)", name) for name in names]
    known = [each for each in found if each is not None]
    starts = {each[1] for each in known}
    if len(known) < len(names) or (len(starts) > 1 and not starts <= {"", "-"}):
        return None
    numbers = [
        int(name) if each[1] in ("", "-") else int(each[2])
        for name, each in zip(names, known, strict=True)
    ]
    ranks = sorted(range(len(names)), key=numbers.__getitem__)
    return [ranks.index(i) for i in range(len(names))]


def _load_model(
    folder: Path,
    config: Any,
    labels: Sequence[str],
    dtype: torch.dtype,
    *,
    keep_head: bool,
    problem: str,
) -> Backbone:
    if problem != SINGLE_LABEL.problem_type:
        config.problem_type = problem
    elif other_task(config):
        config.problem_type = None
    base, given, names = find_base(folder), dict[str, list[int]](), list(labels)
    if base != folder:
        given = kept_shapes(folder)
        rows = head_rows(folder, family_of(config).head)
        if rows is not None and not keep_head:  # loaded as it is, and then replaced
            names = [f"LABEL_{i}" for i in range(rows)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            base,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BuildError(
            f"the checkpoint's weights cannot be loaded as its config.json says: {error}"
        ) from error
    if any(f".{CHILD}." in name for name in report["unexpected_keys"]):
        raise BuildError(
            "the checkpoint is a tier with a prefix (it was tuned by prefix), which cannot be "
            "tuned further; start from the checkpoint that it was tuned from"
        )
    backbone = Backbone(model if base == folder else merge(model, folder))
    lacking = set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}
    lacking -= set(given)
    in_head = {key for key in lacking if key.startswith(backbone.family.head)}
    if lacking - in_head:
        raise BuildError(
            f"the checkpoint lacks weights of the {backbone.family.name} body, or has them in "
            f"other shapes: {', '.join(sorted(lacking - in_head)[:5])}"
        )
    backbone.fresh_head = bool(in_head) or not keep_head
    if len(names) != len(labels):
        _widen(backbone, labels)
    if not keep_head and not in_head:
        _reset(_last_linear(backbone), float(getattr(config, "initializer_range", 0.02)))
    return backbone.eval()


def _widen(backbone: Backbone, labels: Sequence[str]) -> None:
    """Gives the last linear layer as many rows as there are labels; to be set anew."""
    last, model = _last_linear(backbone), backbone.model
    rows = len(labels)
    last.weight = torch.nn.Parameter(last.weight.new_zeros(rows, last.in_features))
    if last.bias is not None:
        last.bias = torch.nn.Parameter(last.bias.new_zeros(rows))
    last.out_features = model.num_labels = rows
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def _reorder_head(backbone: Backbone, order: list[int]) -> None:
    """Puts the rows of the last linear layer into the order of the labels."""
    last = _last_linear(backbone)
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        if last.bias is not None:
            last.bias.copy_(last.bias[order].clone())


def _last_linear(backbone: Backbone) -> torch.nn.Linear:
    head = backbone.model.get_submodule(backbone.family.head[-1])
    return [part for part in head.modules() if isinstance(part, torch.nn.Linear)][-1]


def _reset(linear: torch.nn.Linear, deviation: float) -> None:
    with torch.no_grad():
        linear.weight.normal_(0.0, deviation)
        if linear.bias is not None:
            linear.bias.zero_()
