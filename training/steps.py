"""Steps of a build: resumable, and skipped when nothing they read has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adaptive.bundle.files import telling_disk_faults
from adaptive.config.recipe import Recipe
from adaptive.config.tiers import own_options
from adaptive.device import heap
from adaptive.errors import BuildError
from adaptive.events import Listener, Skipped, doing
from adaptive.training.data import Dataset
from adaptive.training.splits import POOL

FORMAT = 2  # raised when what steps write changes, so that old folders are not reused
Figures = dict[str, Any]
# is given texts (pairs, where the data have them), and returns the label of each, None where it is
# not known
Ask = Callable[[list[Any]], Sequence[str | None]]


@dataclass(frozen=True, slots=True)
class Context:
    """What every step is given."""

    recipe: Recipe
    workdir: Path
    on_event: Listener
    device: torch.device  # where training and measuring happen
    data: Dataset | None = None  # in memory, in place of the recipe's source
    ask: Ask | None = None  # for labels of a pool's texts

    @property
    def pooled(self) -> bool:
        """Whether search and certify rows are of a pool, whose labels are asked for."""
        split = None if self.data is None else self.data.split
        return self.recipe.data.pool is not None or (split is not None and POOL in split)

    def folder(self, step: str) -> Path:
        """Where a finished step left its files."""
        return self.workdir / step

    def figures(self, step: str) -> Figures:
        """The figures a finished step reported."""
        figures: Figures = _read(self.workdir / step / "step.json")["figures"]
        return figures


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `work` writes files into the folder it is given and returns figures.

    Figures called `warnings` are sentences for the user; every build tells them.
    The folder may hold what an interrupted run of the same step with the same inputs left.
    """

    name: str
    after: tuple[str, ...]  # steps whose files it reads
    reads: Callable[[Context], Any]  # whatever else decides its result, as JSON
    work: Callable[[Context, Path], Figures]

    def digest(self, context: Context) -> str:
        """Hash of everything that decides the step's result."""
        before = {name: _read(context.folder(name) / "step.json")["digest"] for name in self.after}
        content = {
            "format": FORMAT,
            "step": self.name,
            "after": before,
            "reads": self.reads(context),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run(
    step: Step, context: Context, *, force: bool = False, number: int = 1, steps: int = 1
) -> bool:
    """Do a step unless it is done; returns whether it ran.

    Args:
        number, steps: which it is, from 1, and of how many.

    Work happens in `<step>.partial`, renamed when complete, so a finished folder is whole and
    an interrupted one is found again.

    Raises:
        BuildError: an earlier step is missing, or files cannot be written.
    """
    for name in step.after:
        if not (context.folder(name) / "step.json").is_file():
            raise BuildError(f"step {step.name!r} needs step {name!r}, which has not run yet")
    done, digest = context.folder(step.name), step.digest(context)
    if not force and _digest(done / "step.json") == digest:
        context.on_event(Skipped(step.name, number, steps))
        return False
    with (
        doing(context.on_event, step.name, number, steps) as found,
        telling_disk_faults(f"step {step.name!r}", context.workdir),
    ):
        found |= _work(step, context, done, digest)
    return True


def _work(step: Step, context: Context, done: Path, digest: str) -> Figures:
    partial = _partial(done)
    if _digest(partial / "inputs.json") != digest:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial / "inputs.json", {"digest": digest})
    torch.manual_seed(context.recipe.seed)  # for weights that are drawn, whatever ran before
    figures = step.work(context, partial)
    heap.trim()
    _write(partial / "step.json", {"digest": digest, "figures": figures})
    (partial / "inputs.json").unlink()
    shutil.rmtree(done, ignore_errors=True)
    os.replace(partial, done)
    return figures


def forget(step: Step, context: Context) -> None:
    """Make a step undone, and what an interrupted run of it left."""
    shutil.rmtree(_partial(context.folder(step.name)), ignore_errors=True)
    (context.folder(step.name) / "step.json").unlink(missing_ok=True)


def section(*names: str) -> Callable[[Context], dict[str, Any]]:
    """A `reads` that takes sections of the recipe, and the seed that every step shares."""

    def reads(context: Context) -> dict[str, Any]:
        recipe = context.recipe.model_dump(mode="json")
        return {name: recipe[name] for name in ("seed", *names)}

    return reads


def of_tier(context: Context, name: str) -> Mapping[str, Any]:
    """What decides how a tier is made: its options, the model, and the seed."""
    tiers = (*context.recipe.small, context.recipe.last)
    (tier,) = (each for each in tiers if each.name == name)
    return section("model")(context) | {name: own_options(tier)}


def of_serving(context: Context, *what: str) -> Mapping[str, Any]:
    """Which tiers are served in int8 (`quantise`), and which by ONNX Runtime (`export`)."""
    recipe = context.recipe
    names = {"quantise": recipe.int8, "export": recipe.exported}
    return {"seed": recipe.seed} | {each: {"tiers": list(names[each])} for each in what}


def _partial(done: Path) -> Path:
    return done.with_name(done.name + ".partial")


def _digest(file: Path) -> str | None:
    return str(_read(file)["digest"]) if file.is_file() else None


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Written as a whole or not at all: a full disk may leave half of a file."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, file)
