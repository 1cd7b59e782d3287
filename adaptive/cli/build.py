"""`adaptive build` and `adaptive step`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptive.cli.evaluate import show_report
from adaptive.cli.outputs import check_workdir
from adaptive.cli.session import Session
from adaptive.config import load_recipe


def build(
    recipe_file: Path,
    session: Session,
    *,
    overrides: Sequence[str],
    workdir: Path | None,
    force: str | None,
    until: str | None = None,
) -> None:
    """Runs a build, or the part of it up to the step `until`, and shows the figures.

    Raises:
        ConfigError: the recipe is wrong, or the work folder holds other things.
        BuildError: there is no such step, or one could not do its work.
        KeyboardInterrupt: passed on, after saying how to resume.
    """
    recipe = load_recipe(recipe_file, overrides)
    folder = workdir or Path("runs") / recipe.name
    check_workdir(folder)
    from adaptive.bundle.header import read_header
    from adaptive.training.build import build

    with _resumable(session, folder, recipe_file, overrides, workdir, until):
        result = build(recipe, folder, until=until, force=force, quiet=not session.bars)
    if until is not None:
        _emit(session, folder / until, {})
    else:
        _emit(session, result, read_header(result).info.get("figures", {}))


def _emit(session: Session, result: Path, figures: Mapping[str, Any]) -> None:
    def show(console: Console) -> None:
        if figures:
            show_report(figures, console)
        console.print(str(result), markup=False, highlight=False, soft_wrap=True)

    session.emit({"result": str(result), "figures": figures}, show)


@contextmanager
def _resumable(
    session: Session,
    folder: Path,
    recipe_file: Path,
    overrides: Sequence[str],
    workdir: Path | None,
    until: str | None,
) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        command = ["adaptive", "build" if until is None else "step", str(recipe_file)]
        command += [] if until is None else [until]
        command += [part for each in overrides for part in ("--set", each)]
        command += [] if workdir is None else ["--workdir", str(workdir)]
        session.note(f"what is done is kept in {folder}; to resume: {shlex.join(command)}")
        raise
