"""`adaptive build` and `adaptive step`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from adaptive.cli.certify import certificate_lines, promised
from adaptive.cli.evaluate import show_report
from adaptive.cli.session import Session
from adaptive.cli.threads import set_threads
from adaptive.config import load_recipe

if TYPE_CHECKING:
    from adaptive.cli.pool import Waiting


def build(
    recipe_file: Path,
    session: Session,
    *,
    overrides: Sequence[str],
    workdir: Path | None,
    force: str | None,
    until: str | None = None,
    threads: int | None = None,
    ask: Path | None = None,
    labels: Path | None = None,
    finish: bool = False,
) -> None:
    """Runs a build, or the part of it up to the step `until`, and shows the figures.

    Raises:
        ConfigError: the recipe is wrong, or the work folder holds other things.
        BuildError: there is no such step, or one could not do its work.
        KeyboardInterrupt: passed on, after saying how to resume.
    """
    recipe = load_recipe(recipe_file, overrides)
    folder = workdir or Path("runs") / recipe.name
    from adaptive.bundle.header import read_header
    from adaptive.cli.pool import Waiting, asker
    from adaptive.training.build import build

    set_threads(threads, session)
    asked = asker(recipe, folder, ask, labels, finish=finish)
    with _resumable(session, folder, recipe_file, overrides, workdir, until):
        try:
            result = build(
                recipe, folder, until=until, force=force, quiet=not session.bars, ask=asked
            )
        except Waiting as waiting:
            _tell_waiting(session, waiting)
            return
    if until is not None:
        _emit(session, folder / until, {})
    else:
        _emit(session, result, read_header(result).info, promised(result))


def _tell_waiting(session: Session, waiting: Waiting) -> None:
    """What is to be done next."""
    told = (
        f"{waiting.texts:,} text{'s' * (waiting.texts != 1)} to label: {waiting.file}. Fill in "
        f"`label`, and run the same command with --labels {waiting.file}; with --finish those that "
        "nothing is known of count as lost"
    )

    def show(console: Console) -> None:
        console.print(told, markup=False, highlight=False, soft_wrap=True)

    session.emit({"result": None, "todo": str(waiting.file), "asked": waiting.texts}, show)


def check(
    recipe_file: Path, session: Session, *, overrides: Sequence[str], workdir: Path | None
) -> None:
    """Runs the checks of a build alone, and shows what they found.

    Raises:
        AdaptiveError: one fault as itself, several as a ConfigError that lists them.
    """
    recipe = load_recipe(recipe_file, overrides)
    from adaptive.training.build import check

    found = check(recipe, workdir or Path("runs") / recipe.name)
    rows, model = found["rows"], found["model"]
    lines = [
        f"rows: {', '.join(f'{count:,} {split}' for split, count in rows.items())}",
        f"labels: {len(found['labels'])}",
        f"model: {model['family']}, {model['layers']} layers x {model['hidden']}, reads up to "
        f"{model['max_length']} tokens",
        f"steps: {', '.join(found['steps'])}",
        f"nothing is wrong; the bundle would be written to {recipe.output}",
    ]

    def show(console: Console) -> None:
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    session.emit({"output": recipe.output, **found}, show)


def _emit(
    session: Session,
    result: Path,
    info: Mapping[str, Any],
    certificate: dict[str, Any] | None = None,
) -> None:
    """The closing lines: figures on the test rows, warnings, the verdict, where the result lies."""
    figures, warnings = info.get("figures", {}), info.get("warnings", [])

    def show(console: Console) -> None:
        lines = [f"warning: {each}" for each in warnings]
        if certificate is not None:
            first, *more = certificate_lines(certificate)
            lines += [f"certificate: {first}", *more]
        if figures:
            show_report(figures, console)
        for text in (*lines, str(result)):
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    told = {"result": str(result), "figures": figures, "warnings": warnings}
    session.emit(told if certificate is None else told | {"certificate": certificate}, show)


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
