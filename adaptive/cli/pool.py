"""`adaptive build --ask`: labels of a pool's texts, asked for by a file in turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptive.cli.outputs import check_output
from adaptive.cli.todo import check_todo, ids_of, read_labels, write_todo
from adaptive.config.recipe import Recipe
from adaptive.errors import ConfigError
from adaptive.outputs import replacing

KEPT = "asked.json"  # in the work folder: labels by id


class Waiting(Exception):
    """Texts were written that a label is wanted of; the build goes on when it comes."""

    def __init__(self, file: Path, texts: int) -> None:
        super().__init__(f"{texts} texts wait for a label")
        self.file, self.texts = file, texts


@dataclass(slots=True)
class Asker:
    """Answers what a build asks from labels that came, and writes a file for the others."""

    todo: Path
    kept: Path
    pool: Any  # Dataset
    finish: bool
    labels: dict[str, str]  # by id
    ids: list[str] = field(init=False)
    rows: dict[Any, int] = field(init=False)  # the first row of each text

    def __post_init__(self) -> None:
        self.ids, texts = ids_of(self.pool), self.pool.texts
        given = texts if self.pool.pairs is None else zip(texts, self.pool.pairs, strict=True)
        self.rows = {}
        for row, text in enumerate(given):
            self.rows.setdefault(text, row)

    def __call__(self, texts: list[Any]) -> Sequence[str | None]:
        """Labels of texts; None of those that are not known where that shall be the end of it.

        Raises:
            Waiting: labels are wanted, and the file for them is written.
        """
        rows = [self.rows[text] for text in texts]
        missing = [row for row in rows if self.ids[row] not in self.labels]
        if missing and not self.finish:
            write_todo(self.todo, self.pool, self.ids, missing)
            raise Waiting(self.todo, len(missing))
        if missing:
            self.finish = False  # one question is done with, the next one is asked
        return [self.labels.get(self.ids[row]) for row in rows]


def asker(
    recipe: Recipe, workdir: Path, todo: Path | None, labels: Path | None, *, finish: bool
) -> Asker | None:
    """What a build asks labels of; None without a pool.

    Raises:
        ConfigError: options and recipe do not belong together, or a file cannot be used.
        DataError: labels that cannot be taken.
    """
    if recipe.data.pool is None or todo is None:
        for name, value in {"--ask": todo, "--labels": labels, "--finish": finish}.items():
            if value and recipe.data.pool is None:
                raise ConfigError(
                    f"{name}: the recipe has no data.pool, whose labels are asked for"
                )
            if value:
                raise ConfigError(f"{name}: belongs to --ask")
        return None
    from adaptive.training.data import load_data
    from adaptive.training.prepare import redacted

    sources = [recipe.data.source, recipe.data.pool.source]
    check_output(todo, [Path(each) for each in sources], "--ask")
    kept = workdir / KEPT
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    check_todo(todo, labels, known)
    pool = redacted(load_data(recipe.data.pool, recipe.seed), recipe)  # as the build asks for it
    made = Asker(todo, kept, pool, finish, known)
    if labels is not None:
        _take(made, labels, workdir)
    return made


def _take(made: Asker, labels: Path, workdir: Path) -> None:
    """Add labels to those that are kept."""
    if not labels.is_file():
        raise ConfigError(f"--labels {labels}: no such file")
    names = workdir / "data" / "labels.json"
    if not names.is_file():
        raise ConfigError(f"--labels {labels}: this build has asked for none yet; build without it")
    came = read_labels(labels, made.ids, json.loads(names.read_text(encoding="utf-8")), {})
    changed = [key for key, name in came.items() if made.labels.get(key, name) != name]
    if changed:
        raise ConfigError(
            f"row {changed[0]}{f' and {len(changed) - 1} more' * (len(changed) > 1)}: was given "
            "another label before. Labels that change after tests were told prove nothing; begin "
            "anew in another work folder, with other texts"
        )
    made.labels |= came
    with replacing(made.kept) as part:
        part.write_text(json.dumps(made.labels, indent=1), encoding="utf-8")
