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
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from adaptive.errors import AdaptiveError, BundleError, FamilyError
from adaptive.tiers.card import CARD, Card, read_card
from adaptive.tiers.find import digest
from adaptive.tiers.graphs import FOLDER, Graphs, check_family
from adaptive.tiers.int8 import check_kind, quantise
from adaptive.tiers.kinds import CONFIG, KINDS, backbone_of, kind_of, save_config
from adaptive.tiers.tier import Tier

MODEL = "model.safetensors"
HEADS = "heads.safetensors"
_KINDS = {  # as safetensors call them, wide to narrow
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


def save_tier(tier: Tier, folder: str | Path) -> None:
    """Writes a tier into a folder, which is made if need be.

    Of a tier that is served otherwise than on its weights as they are, these weights are written,
    from where it was loaded, and how it is served.
    """
    folder, int8, graphs, dtype = Path(folder), tier.int8, tier.backbone.graphs, _dtype_of(tier)
    tier = _as_stored(tier)
    folder.mkdir(parents=True, exist_ok=True)
    if graphs is not None:
        shutil.copytree(graphs.folder, folder / FOLDER, dirs_exist_ok=True)
    backbone = tier.backbone
    if backbone.config is not None:
        save_config(backbone.config, backbone, tier.labels, folder)
    _save(backbone.stored, folder / MODEL, {})
    card = _card_of(tier, digest(folder / MODEL), dtype, int8, graphs is not None)
    # the heads name the backbone and labels they were trained for
    bond = {"backbone": card.sha256, "labels": json.dumps(card.labels)}
    _save(tier.heads, folder / HEADS, bond)
    _write_card(card, folder)


def write_runner(tier: Tier, folder: Path) -> None:
    """Let a tier's folder say how the tier is served, with its graphs; weights stay as they are."""
    graphs = tier.backbone.graphs
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    if graphs is not None:
        shutil.copytree(graphs.folder, folder / FOLDER)
    dtype = str(_dtype_of(tier)).removeprefix("torch.")
    card = replace(read_card(folder), dtype=dtype, int8=tier.int8, graphs=graphs is not None)
    _write_card(card, folder)


def _write_card(card: Card, folder: Path) -> None:
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
    card = read_card(folder)
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
    _fill(tier.backbone.stored, folder / MODEL)
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
    if not tier.int8 and not graphs:
        return
    if not tier.backbone.layers:
        raise FamilyError(f"a {tier.backbone.kind} has no layers")
    backbone = backbone_of(tier)
    if graphs:
        check_family(backbone)
        check_kind(backbone.blocks)
        backbone.graphs = Graphs(graphs, backbone.layers)
        backbone.blocks.to("meta")  # nobody runs on these weights
    else:
        quantise(backbone.blocks)


def _card_of(tier: Tier, sha256: str, dtype: torch.dtype, int8: bool, graphs: bool) -> Card:
    backbone = tier.backbone
    return Card(
        kind=backbone.kind,
        name=tier.name,
        labels=list(tier.labels),
        depths=list(tier.depths),
        own_head=tier.own_head,
        head_width=tier.head_width,
        last_linear=tier.last_linear,
        dtype=str(dtype).removeprefix("torch."),
        hidden=backbone.hidden,
        sha256=sha256,
        int8=int8,
        graphs=graphs,
        prefix=backbone.prefix,
        **KINDS[backbone.kind].sizes(backbone),
    )


def _save(module: nn.Module, file: Path, metadata: dict[str, str]) -> None:
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, file, {"format": "pt"} | metadata)


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
    kind = kind_of(card)
    try:
        return Tier(
            card.name,
            kind.empty(folder, card, dtype),
            card.depths,
            card.labels,
            own_head=card.own_head,
            head_width=card.head_width,
            last_linear=card.last_linear,
        )
    except (AdaptiveError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise BundleError(f"{CARD} or {CONFIG} cannot be followed: {error}") from error


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
