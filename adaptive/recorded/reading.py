"""Outcomes from files: ours, and those that others write.

Whatever stands in a file is data. It is checked row by row, and all faults are raised at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adaptive.errors import DataError
from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row, read_rows
from adaptive.recorded.imports import arena, harness, inspect_logs, llm_router
from adaptive.recorded.outcomes import FIELDS, REQUEST, Outcomes, from_records
from adaptive.recorded.records import Scorer, checked, models_of, named, nested, scored
from adaptive.recorded.scorers import scorer_of

Reader = Callable[[Path, Faults], list[Row]]
IMPORTS: dict[str, Reader] = {
    "lm-eval": harness.rows,
    "inspect": inspect_logs.rows,
    "routerarena": arena.rows,
    "llmrouter": llm_router.rows,
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where outcomes lie and how they are read."""

    path: Path
    form: str | None = None  # of IMPORTS; None: our own
    columns: Mapping[str, str] = field(default_factory=dict)  # name in the file, by field
    scale: tuple[float, float] = (0.0, 1.0)  # the scores that are 0 and 1 here
    scorer: str | Scorer | None = None  # of answers against `right`, where no score stands
    prompts: Path | None = None  # a file of ids and prompts, where they are kept apart
    tiers: tuple[str, ...] = ()  # models to read, cheapest first; none: all

    def __post_init__(self) -> None:
        unknown = [name for name in self.columns if name not in (*REQUEST, *FIELDS)]
        if unknown:
            raise DataError(
                f"column {', '.join(unknown)}: expected one of {', '.join((*REQUEST, *FIELDS))}"
            )
        if not self.scale[0] < self.scale[1]:
            raise DataError(f"scale {self.scale}: expected the worst score, then the best")
        if self.form is not None and self.form not in IMPORTS:
            raise DataError(f"form {self.form}: expected one of {', '.join(IMPORTS)}")


def read_outcomes(source: Source | str | Path) -> Outcomes:
    """Read a file of outcomes, or what an evaluation tool wrote.

    Raises:
        DataError: every fault of the file, by row; or a file that is not there, a tier of which
            it says nothing, or no row at all.
    """
    if not isinstance(source, Source):
        source = Source(Path(source))
    path = source.path.expanduser()
    faults = Faults(str(path))
    if source.form is not None:
        rows = IMPORTS[source.form](path, faults)
    else:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        rows = named(read_rows(path, faults), source.columns)
        rows = nested(
            rows,
            faults,
            answers=source.scorer is not None and "right" in _keys(rows),
            columns=source.columns,
            tiers=source.tiers,
        )
    if source.prompts is not None:
        rows = _with_prompts(rows, source, faults)
    if source.tiers:
        rows = [(number, _only(row, source.tiers)) for number, row in rows]
    records = checked(rows, faults, source.scale)
    faults.check()
    if not records:
        raise DataError(f"{path}: no rows")
    if source.scorer is not None:
        scored(records, scorer_of(source.scorer))
    found = from_records(records, models_of(records))
    return found.only(source.tiers) if source.tiers else found


def _keys(rows: Sequence[Row]) -> set[str]:
    return set(rows[0][1]) if rows else set()


def _only(row: Mapping[str, object], tiers: Sequence[str]) -> dict[str, object]:
    """The row with these models alone: what is wrong with others is no fault."""
    models = row.get("models")
    if not isinstance(models, Mapping):
        return dict(row)
    return {**row, "models": {name: own for name, own in models.items() if name in tiers}}


def _with_prompts(rows: Sequence[Row], source: Source, faults: Faults) -> list[Row]:
    assert source.prompts is not None
    path = source.prompts.expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    own = Faults(str(path))
    read = named(read_rows(path, own), {"prompt": source.columns.get("prompt", "prompt")})
    own.check()
    if read and not {"id", "prompt"} <= set(read[0][1]):
        raise DataError(f"{path}: expected columns id and prompt")
    texts = {str(row.get("id")): row.get("prompt") for _, row in read}
    for number, row in rows:
        if str(row.get("id")) not in texts:
            faults.add(number, f"its id is not among those of {path.name}")
    return [(number, {**row, "prompt": texts.get(str(row.get("id")))}) for number, row in rows]
