"""What recipe, data, model and folders already show to be wrong, told before the first step.

Training takes minutes to hours, so nothing that can be known without it may wait until after it.
The model is loaded, the data are read and split, and the small tiers are made once, untrained: by
the functions that the steps call, so that no rule stands twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ParamSpec, TypeVar

from adaptive.bundle.store import check_replaceable, check_writable
from adaptive.config.recipe import Recipe
from adaptive.errors import AdaptiveError, BuildError, ConfigError
from adaptive.runners import AUTO, PLAIN
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.find import find_source
from adaptive.tiers.runners import lacking
from adaptive.training import full, teach
from adaptive.training.adapting import adapt
from adaptive.training.data import load_data
from adaptive.training.graphs import check_exportable
from adaptive.training.groups import load_with_groups
from adaptive.training.kinds import KINDS
from adaptive.training.prepare import SPLITS, output_names
from adaptive.training.steps import Context, Figures

P = ParamSpec("P")
R = TypeVar("R")


def check(context: Context, steps: Sequence[str]) -> Figures:
    """Check all that a build needs; nothing is written.

    Args:
        steps: names of the build's steps, which are folders in its work folder.

    Returns:
        What was found: rows of each split, classes, the model's family, layers and length.

    Raises:
        AdaptiveError: one fault as itself, several as a ConfigError that lists them.
    """
    recipe, faults = context.recipe, list[AdaptiveError]()

    def attempt(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return work(*args, **kwargs)
        except AdaptiveError as error:
            faults.append(error)
            return None

    attempt(check_workdir, context.workdir)
    attempt(_check_folders, recipe, context.workdir, steps)
    attempt(_check_runtimes, context)
    attempt(teach.check, recipe)
    rows = attempt(_load_rows, context)
    folder = attempt(find_source, recipe.model.id, recipe.model.revision)
    config = None if folder is None else attempt(full.check_task, recipe, folder)
    backbone = None
    labels: tuple[str, ...] = ()
    if folder is not None and config is not None:
        # where the data are wrong, the checkpoint's own labels serve to go on with
        labels = output_names(recipe, rows["labels"] if rows is not None else (), folder)
        backbone = attempt(full.load, context, labels)
        if backbone is not None:
            attempt(_check_model, recipe, backbone, labels)
    if len(faults) > 1:
        told = f"{len(faults)} faults, found before the first step"
        raise ConfigError(told, [str(fault) for fault in faults])
    if faults:
        raise faults[0]
    assert rows is not None and backbone is not None
    model = {
        "family": backbone.family.name,
        "layers": backbone.layers,
        "hidden": backbone.hidden,
        "max_length": backbone.max_length,
    }
    return {"rows": rows["rows"], "labels": list(labels), "model": model, "steps": list(steps)}


def _check_folders(recipe: Recipe, workdir: Path, steps: Sequence[str]) -> None:
    """Raise BuildError unless the steps and the bundle can be written where they belong."""
    output, work = Path(recipe.output).resolve(), workdir.resolve()
    check_replaceable(output)
    taken = output == work or output in work.parents
    taken |= any(output.is_relative_to(work / name) for name in steps)
    if taken:
        raise BuildError(
            f"output {recipe.output!r} and the work folder {str(workdir)!r} would overwrite each "
            "other; give them folders of their own"
        )
    check_writable(work)
    check_writable(output.parent)


def check_workdir(folder: Path) -> None:
    """Refuses a work folder with folders that no step has made: steps would take their place.

    Raises:
        ConfigError: it holds folders, and none that a step has left.
    """
    made = any(folder.glob("*/step.json")) or any(folder.glob("*.partial/inputs.json"))
    if made or not folder.is_dir():
        return
    others = [each.name for each in folder.iterdir() if each.is_dir() and each.name != "log"]
    others = sorted(name for name in others if not name.startswith("."))
    if others:
        raise ConfigError(
            f"work folder {folder}: it holds folders that no build has made "
            f"({', '.join(others[:5])}); name a new or an empty one"
        )


def _check_runtimes(context: Context) -> None:
    """Raise BuildError where this device or what is installed does not do what is asked."""
    recipe = context.recipe
    for tier, runner in recipe.served.items():
        why = None if runner == AUTO else lacking(runner, context.device.type, preparing=True)
        if why is not None:
            raise BuildError(
                f"tier {tier!r} is served by {runner}: {why}; or serve it by another runner, such "
                f"as {PLAIN}"
            )
    if recipe.tracking == "wandb" and find_spec("wandb") is None:
        raise BuildError(
            "tracking: wandb is not installed; pip install 'adaptive-cascade[tracking]', or leave "
            "`tracking` out"
        )


def _load_rows(context: Context) -> Figures:
    """Rows of each split, and the labels; nothing of the texts is kept."""
    data, splits = load_with_groups(context)
    for source in context.recipe.data.unlabelled:
        load_data(source, context.recipe.seed)
    rows = {name: len(getattr(splits, name)) for name in SPLITS}
    return {"rows": rows, "labels": tuple(data.label_names)}


def _check_model(recipe: Recipe, backbone: Backbone, labels: tuple[str, ...]) -> None:
    """Raise AdaptiveError where the tiers that the recipe asks for cannot be made of the model."""
    full.check(recipe, backbone, labels)
    if recipe.exported:
        check_exportable(backbone)
    tier = full.untrained(recipe, backbone, labels)
    for each in recipe.small:
        KINDS[each.kind].check(each, tier)
    adapt(tier, recipe.last)
