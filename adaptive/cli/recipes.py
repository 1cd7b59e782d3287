"""`adaptive recipe`."""

from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console

from adaptive.cli.session import Session
from adaptive.config import load_recipe
from adaptive.config.documents import read_document
from adaptive.config.tiers import upgraded
from adaptive.errors import ConfigError
from adaptive.outputs import replacing


def show(file: Path, session: Session, *, upgrade: bool, output: Path | None) -> None:
    """Shows or writes a recipe with its tiers as a list.

    With `upgrade` it says what the file says and no more; else every default is filled in.

    Raises:
        ConfigError: the recipe is wrong, or would be written over itself.
    """
    recipe = load_recipe(file)  # whatever is wrong is told first
    told = read_document(file).value if upgrade else recipe.model_dump(mode="json")
    value = upgraded(told)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if output is None:
        session.emit(value, lambda console: _print(console, text))
        return
    if output.exists() and output.samefile(file):
        raise ConfigError(f"{output}: is the recipe itself, whose comments would be lost")
    with replacing(output) as part:
        part.write_text(text, encoding="utf-8")
    session.note(f"{output}: the same recipe with its tiers as a list; comments are left out")


def _print(console: Console, text: str) -> None:
    console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
