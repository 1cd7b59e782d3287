"""A whole build: every step of a recipe, in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adaptive.config.recipe import Recipe
from adaptive.errors import BuildError, DataError
from adaptive.events import Listener, Warned, ignore
from adaptive.progress import listening
from adaptive.training import (
    ask_labels,
    certify_policy,
    certify_pool,
    choose,
    choose_runners,
    export,
    full,
    groups,
    heads,
    measure_costs,
    pack,
    preflight,
    prepare,
    quantise,
    record_outcomes,
    teach,
)
from adaptive.training.data import Dataset
from adaptive.training.journal import Journal
from adaptive.training.kinds import KINDS
from adaptive.training.lock import locked
from adaptive.training.parts import finished_steps, tier_steps
from adaptive.training.steps import Ask, Context, Figures, Step, forget, run

logger = logging.getLogger(__name__)


def steps_of(context: Context) -> list[Step]:
    """The steps that a recipe needs."""
    tiers, done = tier_steps(context), finished_steps(context)
    small = [KINDS[tier.kind].step(tier) for tier in context.recipe.small]
    serving = [choose_runners.step(tiers), quantise.step(tiers), export.step(tiers)]
    return [
        prepare.STEP,
        full.STEP,
        teach.STEP,
        heads.STEP,
        *small,
        *[step for step in serving if step.name in done],
        record_outcomes.step(done),
        measure_costs.step(done),
        groups.STEP,
        *[ask_labels.STEP] * context.pooled,
        choose.step(done, pooled=context.pooled),
        certify_policy.step(done),
        pack.step(done),
    ]


def build(
    recipe: Recipe,
    workdir: str | Path,
    *,
    until: str | None = None,
    force: str | None = None,
    quiet: bool = False,
    on_event: Listener | None = None,
    data: Dataset | None = None,
    ask: Ask | None = None,
) -> Path:
    """Run a recipe and return the bundle's folder.

    Steps whose inputs have not changed since they were done are skipped, and an interrupted
    one goes on at its last checkpoint: calling again resumes.

    Args:
        workdir: where the steps keep their files.
        until: the last step to run; None for all.
        quiet: no progress bars; the log then tells every 30 seconds how far a step is.
        on_event: is told each event of `adaptive.events`: a step that begins or ends, how far it
            is, a loss. An error that it raises ends the build, which can go on later.
        data: texts and labels in memory, in place of the recipe's source; see
            `adaptive.training.data.from_memory` and `from_frame`.
        ask: is given texts of `data.pool` and returns the label of each, by name, or None where it
            is not known. It is called for the search's labels at once, then for the certificate's
            in turns. It must not see what any tier answers.
        force: a step to do again although nothing changed, and with it all that read from it.

    Returns:
        Where the recipe puts the bundle; with `until` it need not be there yet.

    Raises:
        BuildError: no such step, a step could not do its work, or another build is at work in
            the folder.
        DataError: the data are wrong; the message names file and row.
        ConfigError: several things are wrong with recipe, data, model or folders; all of them are
            listed, before any step runs.
    """
    context = _context(recipe, workdir, data=data, ask=ask)
    steps = steps_of(context)
    names = [step.name for step in steps]
    asking = context.pooled and until not in names[:-4]  # labels, policy, certify, pack
    if asking and ask is None:
        raise BuildError(
            "data.pool: labels of some of its texts are asked for: name a file for them with --ask "
            "todo.csv, or give `build` a function as `ask`"
        )
    for name in (until, force):
        if name is not None and name not in names:
            raise BuildError(f"no step {name!r}; the steps are {', '.join(names)}")
    logger.info("checking recipe, data, model and folders")
    preflight.check(context, names)
    context.workdir.mkdir(parents=True, exist_ok=True)
    with (
        locked(context.workdir),
        closing(_journal(context)) as journal,
        listening(quiet=quiet, on_event=on_event, more=(journal,)) as tell,
    ):
        context = replace(context, on_event=tell)
        for step in _with_readers(steps, force):
            forget(step, context)
        _run_all(steps, context, until)
        if context.pooled and until is None:
            certify_pool.certify(context)
    return Path(recipe.output)


def _run_all(steps: Sequence[Step], context: Context, until: str | None) -> None:
    for number, step in enumerate(steps, 1):
        # the bundle is the one result that does not lie in the work folder
        lost = step.name == "pack" and not Path(context.recipe.output).is_dir()
        run(step, context, force=lost, number=number, steps=len(steps))
        for warning in context.figures(step.name).get("warnings", ()):
            context.on_event(Warned(warning))
        if step.name == until:
            return


def check(recipe: Recipe, workdir: str | Path, *, data: Dataset | None = None) -> Figures:
    """What `build` checks before its first step, alone; nothing is written or trained.

    Returns:
        What was found: rows of each split, labels, the model and the steps.

    Raises:
        AdaptiveError: one fault as itself, several as a ConfigError that lists them.
    """
    context = _context(recipe, workdir, data=data)
    return preflight.check(context, [step.name for step in steps_of(context)])


def _context(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data: Dataset | None,
    ask: Ask | None = None,
) -> Context:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(workdir)
    ask = None if ask is None else remembering(ask)
    return Context(recipe, folder, ignore, device, data, ask)


def _journal(context: Context) -> Journal:
    recipe = context.recipe
    return Journal(context.workdir / "log", recipe.name, wandb=recipe.tracking == "wandb")


def remembering(ask: Ask) -> Ask:
    """The same, with no text asked about twice."""
    known: dict[Any, str | None] = {}

    def asked(texts: list[Any]) -> list[str | None]:
        fresh = list(dict.fromkeys(text for text in texts if text not in known))
        if fresh:
            given = ask(fresh)
            if isinstance(given, str) or len(given) != len(fresh):
                raise DataError(f"{len(fresh)} texts were asked for, {len(given)} labels came")
            known.update(zip(fresh, given, strict=True))
        return [known[text] for text in texts]

    return asked


def _with_readers(steps: list[Step], name: str | None) -> list[Step]:
    """The named step and all that read from it, be it through others; none for None.

    What a step writes may change without its inputs, as measured times do; a digest of inputs
    does not tell.
    """
    stale: dict[str | None, Step] = {}
    for step in steps:
        if step.name == name or not stale.keys().isdisjoint(step.after):
            stale[step.name] = step
    return list(stale.values())
