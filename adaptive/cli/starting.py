"""`adaptive build --model ID --data FILE`: a first recipe is written, then built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from adaptive.cli.session import Session
from adaptive.config import load_recipe
from adaptive.config.paths import place_paths
from adaptive.errors import ConfigError
from adaptive.outputs import replacing


def recipe_file(
    given: Path | None,
    session: Session,
    *,
    model: str | None,
    data: str | None,
    text: str,
    label: str,
    keep: float,
) -> Path:
    """The recipe that was named, or one written to the current folder for a model and data.

    Raises:
        ConfigError: not one of the two was given, or the file to write is there and another.
    """
    if given is not None:
        if model or data:
            raise ConfigError(
                "give a recipe, or --model and --data, from which one is written; a recipe's own "
                "are changed by --set model.id=.. and --set data.source=.."
            )
        return given
    if model is None or data is None:
        raise ConfigError(
            "give a recipe (adaptive build tickets.yaml), or --model and --data, from which one "
            "is written"
        )
    if not 0.0 < keep < 1.0:
        raise ConfigError(f"--keep is a share above 0 and below 1, such as 0.99; found {keep:g}")
    from adaptive.training.starter import first_recipe

    sections = first_recipe(model, data, text=text, label=label, keep=keep)
    file = Path(f"{sections['name']}.yaml")
    if file.exists():
        _check_same(file, sections)
        return file
    with replacing(file) as part:
        head = f"# adaptive build {file}\n"
        told = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
        part.write_text(head + told, encoding="utf-8")
    session.note(
        f"wrote the recipe to {file}; change it there, and build with: adaptive build {file}"
    )
    return file


def _check_same(file: Path, sections: dict[str, Any]) -> None:
    """Raise ConfigError unless the file is the recipe that would be written."""
    if load_recipe(file) != load_recipe(place_paths(str(file), sections, file.parent)):
        raise ConfigError(
            f"{file} is there and is another recipe than the one for this model and data; build "
            f"it (adaptive build {file}), or move it out of the way"
        )
