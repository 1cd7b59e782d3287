"""A tier in a folder: config.json, model.safetensors, heads.safetensors, tier.json.

Where ONNX Runtime runs the layers, their graphs lie in `layers` beside these.

The folder of an uncut tier without a prefix is also a plain transformers checkpoint. Nothing is
pickled, and nothing is loaded that does not fit to the last tensor.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.initialization import no_init_weights

from adaptive.errors import AdaptiveError, BundleError, FamilyError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.find import digest
from adaptive.tiers.graphs import FOLDER, Graphs, check_family
from adaptive.tiers.int8 import check_kind, quantise
from adaptive.tiers.source import quiet_transformers, read_config, untrained_model
from adaptive.tiers.surgery import Sizes, add_prefix, reshape, sizes_of
from adaptive.tiers.tier import Tier

CARD = "tier.json"
CONFIG = "config.json"
MODEL = "model.safetensors"
HEADS = "heads.safetensors"
_KINDS = {  # as safetensors call them, wide to narrow
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Card:
    """tier.json: what is needed beside the weights to make a tier."""

    kind: str  # transformer | bag
    name: str
    labels: list[str]
    depths: list[int]
    own_head: bool
    head_width: int | None
    dtype: str  # that it is served in; the weights here may have another
    heads: list[int]  # attention heads of each layer; empty for a bag
    widths: list[int]  # feed-forward neurons of each layer; empty for a bag
    vocabulary: int  # bag only, else 0
    hidden: int
    buckets: int  # bag only, else 0
    sha256: str  # of model.safetensors
    int8: bool = False  # the layers are served in int8; the weights here are not
    graphs: bool = False  # the layers are run by ONNX Runtime, from the graphs beside
    prefix: int = 0  # tokens of a prefix in each layer


def save_tier(tier: Tier, folder: str | Path) -> None:
    """Writes a tier into a folder, which is made if need be.

    Of a tier that is served otherwise than on its weights as they are, these weights are written,
    from where it was loaded, and how it is served.
    """
    folder, int8, graphs, dtype = Path(folder), tier.int8, _graphs_of(tier), _dtype_of(tier)
    tier = _as_stored(tier)
    folder.mkdir(parents=True, exist_ok=True)
    if graphs is not None:
        shutil.copytree(graphs.folder, folder / FOLDER, dirs_exist_ok=True)
    backbone = tier.backbone
    if isinstance(backbone, Backbone):
        _save_config(backbone, tier.labels, folder)
        _save(backbone.model, folder / MODEL, {})
    else:
        _save(backbone, folder / MODEL, {})
    card = _card_of(tier, digest(folder / MODEL), dtype, int8, graphs is not None)
    # the heads name the backbone and labels they were trained for
    bond = {"backbone": card.sha256, "labels": json.dumps(card.labels)}
    _save(tier.heads, folder / HEADS, bond)
    text = json.dumps(asdict(card), indent=2, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def load_tier(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    labels: Sequence[str] | None = None,
    int8: bool | None = None,
    graphs: Path | bool | None = None,
) -> Tier:
    """A tier as `save_tier` wrote it, ready to answer (dropout off).

    Args:
        folder: where it lies.
        device: where the weights go.
        dtype: to run in; None for the one it is meant to be served in.
        labels: if given, the tier must have these, in this order.
        int8: whether its layers shall run in int8; None for as it is meant to be served.
        graphs: where the graphs lie that ONNX Runtime shall run, False for torch; None for as it
            is meant to be served. Graphs are of int8 or not, and not changed by `int8`.

    Raises:
        BundleError: a file is missing or damaged, does not fit the others, or the tier has
            other labels, or is to run in a way that it cannot here. The file is named.
    """
    folder = Path(folder)
    card = _read_card(folder)
    if labels is not None and list(labels) != card.labels:
        raise BundleError(f"{CARD}: the tier's labels are not those expected, in their order")
    for name in (MODEL, HEADS):
        if not (folder / name).is_file():
            raise BundleError(f"{name} is missing")
    found = digest(folder / MODEL)
    if found != card.sha256:
        raise BundleError(f"{MODEL} has SHA-256 {found}, expected {card.sha256}")
    _check_bond(folder / HEADS, card)
    served = dtype or getattr(torch, card.dtype)
    tier = _empty(folder, card, served)
    backbone = tier.backbone
    _fill(backbone.model if isinstance(backbone, Backbone) else backbone, folder / MODEL)
    _fill(tier.heads, folder / HEADS)
    tier = tier.to(device).eval()
    tier.int8 = card.int8 if int8 is None else int8
    if graphs is None:
        graphs = card.graphs
    if graphs is True:
        graphs = folder / FOLDER
    try:
        _change_layers(tier, graphs or None)
    except FamilyError as error:
        raise BundleError(f"{CARD}: the tier cannot run as it is meant to: {error}") from error
    as_stored = served == stored_dtype(folder / MODEL) and not tier.int8 and not graphs
    tier.source = None if as_stored else folder.resolve()
    return tier


def in_torch(tier: Tier) -> Tier:
    """A tier in int8 or in graphs as torch runs it, loaded from where it lies; any other itself.

    Raises:
        BundleError: its folder is gone, or no longer whole.
    """
    if tier.source is None or not (tier.int8 or tier.in_graphs):
        return tier
    return load_tier(tier.source, int8=False, graphs=False)


def reference_of(tier: Tier) -> Tier:
    """The tier in float32 in torch, on its device: what answers are held to. It may be itself.

    It is loaded from where its weights lie. Where they are kept in half precision, it computes in
    float32 with these; what was lost when they were rounded, it has lost too.

    Raises:
        BundleError: its folder is gone, or no longer whole.
    """
    if tier.in_float32:
        return tier
    if tier.source is None:  # made in memory: there are no other weights
        return copy.deepcopy(tier).float()
    device = tier.backbone.embedding_table.device
    return load_tier(tier.source, device, torch.float32, int8=False, graphs=False)


def is_rounded(tier: Tier) -> bool:
    """Whether its weights are kept in half precision, so that none in float32 are at hand."""
    kept = _dtype_of(tier) if tier.source is None else stored_dtype(tier.source / MODEL)
    return kept.itemsize < torch.float32.itemsize


def stored_dtype(file: Path) -> torch.dtype:
    """The dtype of the weights in a file; the widest, where they have several.

    Raises:
        BundleError: the file is damaged.
    """
    try:
        with safe_open(file, framework="pt") as stream:
            kinds = {stream.get_slice(name).get_dtype() for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{file.name} is damaged: {error}") from error
    found = [dtype for kind, dtype in _KINDS.items() if kind in kinds]
    return found[0] if found else torch.float32


def _dtype_of(tier: Tier) -> torch.dtype:
    return tier.backbone.embedding_table.dtype


def _as_stored(tier: Tier) -> Tier:
    """A tier on its weights as they are kept, loaded from where they lie; else the tier itself."""
    if tier.source is None:
        return tier
    kept = stored_dtype(tier.source / MODEL)
    return load_tier(tier.source, dtype=kept, int8=False, graphs=False)


def _change_layers(tier: Tier, graphs: Path | None) -> None:
    """Put int8 layers in the place of torch's, or graphs in the place of any."""
    backbone = tier.backbone
    if not isinstance(backbone, Backbone):
        if tier.int8 or graphs:
            raise FamilyError("a bag has no layers")
    elif graphs:
        check_family(backbone)
        check_kind(backbone.blocks)
        backbone.graphs = Graphs(graphs, backbone.layers)
        backbone.blocks.to("meta")  # nobody runs on these weights
    elif tier.int8:
        quantise(backbone.blocks)


def _graphs_of(tier: Tier) -> Graphs | None:
    return tier.backbone.graphs if isinstance(tier.backbone, Backbone) else None


def _card_of(tier: Tier, sha256: str, dtype: torch.dtype, int8: bool, graphs: bool) -> Card:
    backbone = tier.backbone
    bag = isinstance(backbone, Bag)
    sizes = Sizes((), ()) if isinstance(backbone, Bag) else sizes_of(backbone)
    return Card(
        kind="bag" if bag else "transformer",
        name=tier.name,
        labels=list(tier.labels),
        depths=list(tier.depths),
        own_head=tier.own_head,
        head_width=tier.head_width,
        dtype=str(dtype).removeprefix("torch."),
        heads=list(sizes.heads),
        widths=list(sizes.widths),
        vocabulary=len(backbone.embedding_table) if bag else 0,
        hidden=backbone.hidden,
        buckets=backbone.buckets if isinstance(backbone, Bag) else 0,
        sha256=sha256,
        int8=int8,
        graphs=graphs,
        prefix=0 if isinstance(backbone, Bag) else backbone.prefix,
    )


def _save_config(backbone: Backbone, labels: Sequence[str], folder: Path) -> None:
    config = backbone.config
    values = config.to_dict() | {
        "architectures": [type(backbone.model).__name__],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "dtype": str(backbone.embedding_table.dtype).removeprefix("torch."),
    }
    # where the model came from is a path of the machine that built it
    values.pop("_name_or_path", None)
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _save(module: nn.Module, file: Path, metadata: dict[str, str]) -> None:
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, file, {"format": "pt"} | metadata)


def _read_card(folder: Path) -> Card:
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
        card = Card(**values)
    except FileNotFoundError:
        raise BundleError(f"{CARD} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{CARD} is not a tier's card: {error}") from error
    fault = _card_fault(card)
    if fault:
        raise BundleError(f"{CARD}: {fault}")
    return card


def _card_fault(card: Card) -> str | None:
    plain: dict[str, type] = {"name": str}
    plain |= dict.fromkeys(("own_head", "int8", "graphs"), bool)
    plain |= dict.fromkeys(("vocabulary", "hidden", "buckets", "prefix"), int)
    for name, kind in plain.items():
        if type(getattr(card, name)) is not kind:
            return f"{name} must be of type {kind.__name__}"
    for name in ("labels", "depths", "heads", "widths"):
        kind = str if name == "labels" else int
        values = getattr(card, name)
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            return f"{name} must be a list of {kind.__name__}"
    sizes = (card.vocabulary, card.hidden, card.buckets, card.prefix)
    if not all(0 <= size < 2**31 for size in sizes):
        return "sizes must be from 0 to 2147483647"
    if card.kind not in ("transformer", "bag"):
        return f"unknown kind {card.kind!r}, expected transformer or bag"
    if card.dtype not in ("float32", "float16", "bfloat16", "float64"):
        return f"unknown dtype {card.dtype!r}"
    return None


def _check_bond(file: Path, card: Card) -> None:
    try:
        with safe_open(file, framework="pt") as stream:
            bond = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{HEADS} is damaged: {error}") from error
    if bond.get("backbone") != card.sha256:
        raise BundleError(f"{HEADS} belongs to another backbone than {MODEL}")
    if bond.get("labels") != json.dumps(card.labels):
        raise BundleError(f"{HEADS} belongs to other labels, or another order of them")


def _empty(folder: Path, card: Card, dtype: torch.dtype) -> Tier:
    """A tier of the card's sizes, its weights not yet set."""
    try:
        backbone = (
            Bag(card.vocabulary, card.hidden, card.buckets).to(dtype)
            if card.kind == "bag"
            else _empty_backbone(folder, card, dtype)
        )
        return Tier(
            card.name,
            backbone,
            card.depths,
            card.labels,
            own_head=card.own_head,
            head_width=card.head_width,
        )
    except (AdaptiveError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise BundleError(f"{CARD} or {CONFIG} cannot be followed: {error}") from error


def _empty_backbone(folder: Path, card: Card, dtype: torch.dtype) -> Backbone:
    with quiet_transformers(), no_init_weights():
        model = untrained_model(read_config(folder), dtype)
    backbone = reshape(Backbone(model), Sizes(tuple(card.heads), tuple(card.widths)))
    if card.prefix:
        add_prefix(backbone, card.prefix)
    return backbone


def _fill(module: nn.Module, file: Path) -> None:
    """Loads every tensor of a file into its place.

    Raises:
        BundleError: damaged, one too many, one too few, another shape, or not finite.
    """
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{file.name} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BundleError(f"{file.name}: tensor {name} holds NaN or infinity")
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise BundleError(f"{file.name} does not fit the tier: {error}") from error
