"""The tiers of a recipe: a list of any length, cheapest first, the checkpoint itself last.

Recipes may also have sections `tiny`, `mid` and `full`, with `quantise` and `export` for how these
are served, as all had before there was a list. `listed` makes the list of them, and everything
else reads that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from adaptive.config.steps import (
    BagConfig,
    FullConfig,
    JointConfig,
    MidConfig,
    TransformerConfig,
)
from adaptive.runners import AUTO, RUNNERS, named

if TYPE_CHECKING:
    from adaptive.config.recipe import Recipe

# A small tier lies in a folder of its name, among those of the build's steps.
TAKEN = (
    *("data", "full", "teacher", "exits", "quantise", "export", "outcomes", "costs", "groups"),
    *("labels", "policy", "certify", "pack", "log", "entry", "runners"),
)
SECTIONS = ("tiny", "mid", "full", "quantise", "export")  # of recipes without a list
# runners whose weights are of the cost step's dtype, whichever that is
_OF_ANY_DTYPE = [name for name, each in RUNNERS.items() if each.device != "cpu"]
_HOW = frozenset({"name", "serve"})
_HOW_SECTIONS = _HOW | {"kind"}  # sections mid and full had no kind, and steps' digests hold


def _free(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"{name!r} is the name of a step; choose another")
    return name


def _known(name: str) -> str:
    if name not in (*RUNNERS, AUTO):
        raise ValueError(f"no runner {name!r}; expected {', '.join(RUNNERS)} or {AUTO}")
    return name


TierName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=32), AfterValidator(_free)
]
# None: the quickest runner of the machine; torch where cost.dtype is not float32
RunnerName = Annotated[str, AfterValidator(_known)]


class BagTier(BagConfig):
    """An embedding bag, distilled from the checkpoint."""

    told_apart: ClassVar[frozenset[str]] = _HOW  # fields that do not tell how it is made
    name: TierName
    serve: Literal["torch"] = "torch"  # it has no layers to run otherwise


class NarrowTier(TransformerConfig):
    """A shallow, narrow transformer of the checkpoint's family, distilled from it."""

    told_apart: ClassVar[frozenset[str]] = _HOW
    name: TierName
    serve: RunnerName | None = None


class PrunedTier(MidConfig):
    """Layers, heads and neurons cut out of the checkpoint, then distilled back."""

    told_apart: ClassVar[frozenset[str]] = _HOW_SECTIONS
    kind: Literal["pruned"] = "pruned"
    name: TierName
    serve: RunnerName | None = None


class JointTier(JointConfig):
    """The fine-tuned checkpoint, trained on together with its exits."""

    told_apart: ClassVar[frozenset[str]] = _HOW_SECTIONS
    kind: Literal["joint"] = "joint"
    name: TierName
    serve: RunnerName | None = None


class CheckpointTier(FullConfig):
    """The checkpoint itself, fine-tuned or as it is: the last tier, which promises are held to."""

    told_apart: ClassVar[frozenset[str]] = _HOW_SECTIONS
    kind: Literal["checkpoint"] = "checkpoint"
    name: Literal["full"] = "full"
    serve: RunnerName | None = None


_TINY: Mapping[str, Callable[..., BagTier | NarrowTier]] = {  # what section `tiny` stands for
    "bag": BagTier,
    "transformer": NarrowTier,
}
SmallTier = BagTier | NarrowTier | PrunedTier | JointTier
TierConfig = Annotated[SmallTier | CheckpointTier, Field(discriminator="kind")]


def own_options(tier: SmallTier | CheckpointTier) -> dict[str, Any]:
    """How a tier is made, without what it is called and how it is served."""
    told = tier.model_dump(mode="json", exclude=set(tier.told_apart))
    if tier.kind == "checkpoint" and tier.tune != "prefix":
        del told["prefix"]  # so that tiers made before there was one are not made again
    return told


def listed(recipe: Recipe) -> tuple[tuple[SmallTier, ...], CheckpointTier]:
    """The small tiers, cheapest first, and the checkpoint."""
    if recipe.tiers is not None:
        *small, last = recipe.tiers
        assert last.kind == "checkpoint"
        return tuple(each for each in small if each.kind != "checkpoint"), last
    found: list[SmallTier] = []
    if recipe.tiny is not None:
        served = {"serve": _served(recipe, "tiny")} if recipe.tiny.layered else {}
        found.append(_TINY[recipe.tiny.kind](name="tiny", **served, **dict(recipe.tiny)))
    if recipe.mid is not None:
        found.append(PrunedTier(name="mid", serve=_served(recipe, "mid"), **dict(recipe.mid)))
    return tuple(found), CheckpointTier(serve=_served(recipe, "full"), **dict(recipe.full))


def _served(recipe: Recipe, name: str) -> str:
    return named(int8=name in recipe.quantise.tiers, graphs=name in recipe.export.tiers)


def upgraded(value: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's mapping with a list of tiers in place of the sections, and whatever they say.

    Args:
        value: of a recipe that has no faults.
    """
    kept = {key: each for key, each in value.items() if key not in SECTIONS}
    if kept.pop("tiers", None) is not None:
        return kept | {"tiers": value["tiers"]}
    int8, exported = ((value.get(name) or {}).get("tiers", ()) for name in ("quantise", "export"))
    tiers = []
    for name, kind in (("tiny", None), ("mid", "pruned"), ("full", "checkpoint")):
        if value.get(name) is None and name != "full":
            continue
        head = {"name": name} | ({} if kind is None else {"kind": kind})
        options = dict(value.get(name) or {})
        layered = options.get("kind") != "bag"
        runner = named(int8=name in int8, graphs=name in exported)
        tiers.append(head | options | ({"serve": runner} if layered else {}))
    place = list(kept).index("data") + 1  # behind model and data
    items = list(kept.items())
    return dict([*items[:place], ("tiers", tiers), *items[place:]])


def tier_faults(recipe: Recipe) -> list[str]:
    """What is wrong with the tiers as a whole, each fault with its path."""
    if recipe.tiers is None:
        return [*_serving_faults(recipe), *_exit_faults(recipe), *_prefix_faults(recipe)]
    empty = {name: type(recipe).model_fields[name].default for name in SECTIONS}
    given = [name for name in SECTIONS if getattr(recipe, name) != empty[name]]
    if given:
        return [f"{given[0]}: the recipe lists its tiers; say it there"]
    if not recipe.tiers or recipe.tiers[-1].kind != "checkpoint":
        return ["tiers: the last one is the checkpoint itself (kind: checkpoint)"]
    faults = []
    names = [each.name for each in recipe.tiers]
    for number, each in enumerate(recipe.tiers[:-1]):
        if each.kind == "checkpoint":
            faults.append(f"tiers.{number}: the checkpoint comes last, and once")
        elif each.name in names[:number]:
            faults.append(f"tiers.{number}.name: {each.name!r} stands twice")
    if faults:
        return faults
    return [*_exit_faults(recipe), *_dtype_faults(recipe, "tiers"), *_prefix_faults(recipe)]


def _serving_faults(recipe: Recipe) -> list[str]:
    """Tiers that are not there, or have no layers to serve in another way."""
    faults = []
    for step in ("quantise", "export"):
        tiers = getattr(recipe, step).tiers
        for name in tiers:
            section = getattr(recipe, name)
            if section is None:
                faults.append(f"{step}.tiers: the recipe has no {name} tier")
            elif not section.layered:
                faults.append(f"{step}.tiers: {name} is a {section.kind}, which has no layers")
        faults += _dtype_faults(recipe, f"{step}.tiers") if tiers else []
    return faults


def _dtype_faults(recipe: Recipe, path: str) -> list[str]:
    small, last = listed(recipe)
    plain = all(each.serve in (None, *_OF_ANY_DTYPE) for each in (*small, last))
    if plain or recipe.cost.dtype == "float32":
        return []
    return [f"cost.dtype: {recipe.cost.dtype} does not go with {path}; use float32"]


def _prefix_faults(recipe: Recipe) -> list[str]:
    """Tiers with a prefix, the checkpoint's own or one made of it, that ONNX Runtime would run."""
    if listed(recipe)[1].tune != "prefix":
        return []
    return [
        f"{path if recipe.tiers is None else f'{path}.serve'}: layers with a prefix (the full "
        f"tier's tune is prefix) are not exported to {tier.serve}; serve {tier.name} by torch or "
        "torch-int8, or tune by lora or adalora"
        for path, tier in _paths(recipe)
        if tier.kind in ("pruned", "joint", "checkpoint") and tier.name in recipe.exported
    ]


def _exit_faults(recipe: Recipe) -> list[str]:
    """Each tier's depths within its layers; the first tier has the anchor at depth 0."""
    faults = []
    paths = list(_paths(recipe))
    for path, tier in paths:
        layers = getattr(tier, "layers", None)
        if tier.exits and layers is not None and tier.exits[-1] > layers:
            last = tier.exits[-1]
            faults.append(f"{path}.exits: depth {last} is behind the last layer, {layers}")
    path, first = paths[0]
    if first.exits and first.exits[0] != 0:
        faults.append(f"{path}.exits: the first tier needs an exit at depth 0")
    return faults


def _paths(recipe: Recipe) -> Iterator[tuple[str, SmallTier | CheckpointTier]]:
    """Each tier with its path in the recipe."""
    small, last = listed(recipe)
    tiers: Sequence[SmallTier | CheckpointTier] = (*small, last)
    for number, tier in enumerate(tiers):
        yield tier.name if recipe.tiers is None else f"tiers.{number}", tier
