"""`adaptive build` and `adaptive step`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from adaptive.cli.session import Session
from adaptive.config import load_recipe


def build(
    recipe_file: Path,
    session: Session,
    overrides: Sequence[str],
    workdir: Path | None,
    force: Sequence[str],
    until: str | None = None,
) -> None:
    """Runs a build, or the part of it that `until` needs, and says where its result is.

    Raises:
        ConfigError: the recipe is wrong, or has no such step.
        BuildError: a step could not do its work.
        KeyboardInterrupt: passed on, after saying how to resume.
    """
    recipe = load_recipe(recipe_file, overrides)
    folder = workdir or Path("runs") / recipe.name
    from adaptive.training.build import build

    try:
        result = build(recipe, folder, force=force, until=until, quiet=session.quiet)
    except KeyboardInterrupt:
        command = ["adaptive", "build" if until is None else "step", str(recipe_file)]
        command += [] if until is None else [until]
        command += [part for each in overrides for part in ("--set", each)]
        command += [] if workdir is None else ["--workdir", str(workdir)]
        session.note(f"finished steps are kept in {folder}; to resume: {shlex.join(command)}")
        raise
    session.emit(
        {"result": str(result)},
        lambda console: console.print(str(result), markup=False, highlight=False, soft_wrap=True),
    )
