"""Files of `adaptive certify --ask`: texts to label, labels that come back, what is kept between.

A text to label has an id, its text and an empty cell, and nothing of what any tier answers, so
that labellers are not led. The id holds a checksum of the text: labels of another pool are
refused by it. Between two calls a folder keeps what every stage answered and the labels so far.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive.errors import ConfigError, DataError
from adaptive.outputs import replacing
from adaptive.types import OutcomeTable, Stage

if TYPE_CHECKING:
    from adaptive.policy.costs import CostTable
    from adaptive.training.data import Dataset

ID, LABEL = "row", "label"
FORMS = (".csv", ".jsonl")
SHUFFLE = 17  # seed of the order of texts in the file
FORMAT = 1
_STATE, _ANSWERS, _COSTS = "state.json", "answers.safetensors", "costs.json"


def ids_of(data: Dataset) -> list[str]:
    """An id for each row: its number from 1, and a checksum of its text, [n]."""
    pairs = data.pairs or [""] * len(data)
    both = enumerate(zip(data.texts, pairs, strict=True), 1)
    return [f"{number}-{_digest(text, pair)[:8]}" for number, (text, pair) in both]


def pool_hash(ids: Sequence[str]) -> str:
    """SHA-256 of all texts in their order, as far as their ids tell."""
    return _digest(*ids)


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def check_todo(file: Path, labels: Path | None, known: Mapping[str, str]) -> None:
    """Refuse to write over labels that were not read yet.

    Args:
        labels: the file that labels are read from in this call, which may be the same.
        known: labels by id, as they are kept.

    Raises:
        ConfigError: another kind of file, or one that holds labels or is no such list.
    """
    if file.suffix not in FORMS:
        raise ConfigError(f"--ask {file}: expected one of {', '.join(FORMS)}")
    if not file.exists() or (labels is not None and labels.resolve() == file.resolve()):
        return
    try:
        cells = _cells(file)
    except DataError:
        raise ConfigError(
            f"--ask {file}: the file is there and is no list of texts to label; name another"
        ) from None
    fresh = sum(bool(str(label or "").strip()) and str(key) not in known for _, key, label in cells)
    if fresh:
        raise ConfigError(
            f"--ask {file}: holds {fresh} labels that were not read; give it as --labels {file}, "
            "or name another file"
        )


def write_todo(file: Path, data: Dataset, ids: Sequence[str], rows: Sequence[int]) -> None:
    """Write the rows to label, shuffled, so that their order tells nothing.

    A CSV of more than ASCII begins with a mark, without which spreadsheets take it for another
    encoding.
    """
    order = np.random.default_rng(SHUFFLE).permutation(len(rows))
    names = ["text"] if data.pairs is None else ["text", "text_pair"]
    lines = []
    for row in np.asarray(rows)[order].tolist():
        texts = [data.texts[row]] if data.pairs is None else [data.texts[row], data.pairs[row]]
        lines.append({ID: ids[row], **dict(zip(names, texts, strict=True)), LABEL: ""})
    plain = all(text.isascii() for line in lines for text in line.values())
    encoding = "utf-8" if plain or file.suffix != ".csv" else "utf-8-sig"
    with replacing(file) as part, part.open("w", encoding=encoding, newline="") as out:
        if file.suffix == ".jsonl":
            out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            return
        writer = csv.DictWriter(out, [ID, *names, LABEL])
        writer.writeheader()
        writer.writerows(lines)


def read_labels(
    file: Path, ids: Sequence[str], names: Sequence[str], rename: Mapping[str, str]
) -> dict[str, str]:
    """Labels by id, of a list that was filled in.

    Args:
        ids: of the pool.
        names: the bundle's labels.
        rename: what raw labels are called among them.

    Raises:
        DataError: a row without a label or with an unknown one, an id of no row of the pool or
            one that stands twice; all told by place, and none by text.
    """
    known, found, faults = set(ids), dict[str, str](), []
    for place, key, label in _cells(file):
        name = _name(label)
        name = None if name is None else rename.get(name, name)
        if str(key) not in known:
            faults.append(f"{place}: its id is none of this pool's {len(ids):,}; is it another's?")
        elif str(key) in found:
            faults.append(f"{place}: the id {key} stands twice")
        elif name is None:
            faults.append(f"{place}: no label; fill it in, or delete the row where none is known")
        elif name not in names:
            faults.append(
                f"{place}: its label (length {len(name)}) is not one of the {len(names)} labels of "
                "the bundle"
            )
        else:
            found[str(key)] = name
    if faults:
        more = [f"and {len(faults) - 5} more rows"] * (len(faults) > 5)
        raise DataError("\n".join([*(f"{file}: {fault}" for fault in faults[:5]), *more]))
    return found


def _name(label: Any) -> str | None:
    from adaptive.cells import as_name

    name = as_name(label)
    return None if name is None else name.strip()


def _cells(file: Path) -> list[tuple[str, Any, Any]]:
    """Place, id and label of each row."""
    from adaptive.training.reading import open_rows

    found = []
    with open_rows(str(file), (ID, LABEL)) as rows:
        for row in rows:
            place = f"row {row.number}"
            if row.fault is not None:
                raise DataError(f"{file}: {place}: {row.fault}")
            found.append((place, str(row.cells[0]).strip(), row.cells[1]))
    return found


@dataclass(slots=True)
class State:
    """What is kept between two calls."""

    folder: Path
    facts: dict[str, Any]  # what all is about: bundle, pool, promise, accuracy, order of tests
    labels: dict[str, str] = field(default_factory=dict)  # by id

    @classmethod
    def read(cls, folder: Path) -> State | None:
        """The state in a folder, None where there is none.

        Raises:
            ConfigError: it is not readable, or of another version.
        """
        file = folder / _STATE
        if not file.is_file():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(f"{folder}: holds something else; name a folder with --state")
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ValueError("format")
            return cls(folder, dict(found["facts"]), dict(found["labels"]))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{file}: is not readable; remove the folder to begin anew, and give the labels "
                "again"
            ) from None

    def write(self) -> None:
        """Write facts and labels, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "facts": self.facts, "labels": self.labels}
        with replacing(self.folder / _STATE) as part:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")

    def keep(self, table: OutcomeTable, costs: CostTable | None) -> None:
        """Keep what every stage answered, and costs where they were measured anew."""
        from adaptive.bundle.files import write_json
        from adaptive.bundle.outcomes import save_outcomes

        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / _ANSWERS) as part:
            save_outcomes(table, part)
        if costs is not None:
            with replacing(self.folder / _COSTS) as part:
                write_json(part, costs.to_json())

    def kept(self, stages: tuple[Stage, ...]) -> tuple[OutcomeTable, CostTable | None]:
        """What `keep` kept.

        Raises:
            BundleError: a file is missing or damaged.
        """
        from adaptive.bundle.files import read_json
        from adaptive.bundle.outcomes import load_outcomes
        from adaptive.policy.costs import CostTable

        file = self.folder / _COSTS
        costs = CostTable.from_json(read_json(file, str(file))) if file.is_file() else None
        answers = self.folder / _ANSWERS
        return load_outcomes(answers, stages, str(answers)), costs

    def check(self, facts: Mapping[str, Any]) -> None:
        """Refuse to go on with anything but what was begun.

        Raises:
            ConfigError: naming what is another.
        """
        changed = [name for name, value in facts.items() if self.facts.get(name) != value]
        if changed:
            raise ConfigError(
                f"{self.folder}: was begun with another {' and '.join(changed)}. What is tested is "
                "fixed before labels are seen: go on with what it was begun with, or name another "
                "folder with --state; labels that were given may be given again"
            )
