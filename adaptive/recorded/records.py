"""From the rows of a file to outcomes: three shapes, one record.

- by model: `{"id": .., "prompt": .., "models": {"small": {"score": 1, "answer": ..}, ..}}`
- by field: `{"id": .., "score": {"small": 1, ..}, "answer": {"small": .., ..}}`
- flat, which a CSV is: a column `small.score` (or `small|score`) for each field of each model, or
  a column `small` alone, which is the score; with a scorer and right answers, the answer.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adaptive.errors import DataError
from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row
from adaptive.recorded.outcomes import FIELDS, NUMBERS, REQUEST, WORDS

Record = dict[str, Any]  # of REQUEST, and `models`: fields by model
LONGEST = 200  # letters of a model's name: what is longer is a text that strayed into the header
_YES, _NO = ("true", "yes"), ("false", "no")


def named(rows: Iterable[Row], columns: Mapping[str, str]) -> list[Row]:
    """The rows with columns renamed to the fields that they are.

    Args:
        columns: name in the file by field.
    """
    if not columns:
        return list(rows)
    back = {name: field for field, name in columns.items()}
    return [
        (number, {back.get(key, key): value for key, value in row.items()}) for number, row in rows
    ]


def nested(
    rows: Sequence[Row],
    faults: Faults,
    *,
    answers: bool,
    columns: Mapping[str, str] | None = None,
    tiers: Sequence[str] = (),
) -> list[Row]:
    """The rows by model, whatever shape they have.

    Args:
        answers: whether a flat column that is called like a model holds its answer, not its score.
        columns: other names of fields, which stand behind a model's: name by field.
        tiers: the models that are wanted; none: all.

    Raises:
        DataError: no row names a model.
    """
    if not rows:
        return []
    first = rows[0][1]
    if "models" in first:
        return list(rows)
    if any(isinstance(first.get(field), Mapping) for field in FIELDS):
        return [(number, _by_model(row)) for number, row in rows]
    fields = {field: field for field in FIELDS}
    fields |= {name: field for field, name in (columns or {}).items() if field in FIELDS}
    flat = _columns(first, "answer" if answers else "score", fields)
    if tiers:
        flat = {name: each for name, each in flat.items() if each[0] in tiers}
    if not flat:
        raise DataError(
            f"{faults.name}: no column of a model; expected `models`, `score`, or columns such as "
            "small.score"
        )
    return [(number, _unfolded(row, flat)) for number, row in rows]


def _by_model(row: Mapping[str, Any]) -> Record:
    models: dict[str, Record] = {}
    for field in FIELDS:
        if isinstance(row.get(field), Mapping):
            for model, value in row[field].items():
                models.setdefault(model, {})[field] = value
    return {**{name: row.get(name) for name in REQUEST}, "models": models}


def _columns(
    row: Mapping[str, Any], alone: str, fields: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Model and field of each column that is a model's."""
    found = {}
    for name in row:
        model, field = name, alone
        for sign in (".", "|"):
            before, _, after = name.rpartition(sign)
            if before and after in fields:
                model, field = before, fields[after]
        if name not in REQUEST and len(model) <= LONGEST:
            found[name] = (model, field)
    return found


def _unfolded(row: Mapping[str, Any], flat: Mapping[str, tuple[str, str]]) -> Record:
    models: dict[str, Record] = {}
    for name, (model, field) in flat.items():
        models.setdefault(model, {})[field] = row.get(name)
    return {**{name: row.get(name) for name in REQUEST}, "models": models}


def checked(
    rows: Sequence[Row], faults: Faults, scale: tuple[float, float] = (0.0, 1.0)
) -> list[Record]:
    """The rows as records, with everything that is wrong with them told to `faults`.

    Args:
        scale: the scores that are 0 and 1 on ours, such as (1, 10) of a judge.
    """
    records: list[Record] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        record: Record = {}
        name = row.get("id")
        record["id"] = str(number) if name in (None, "") else str(name)
        if record["id"] in seen:
            faults.add(number, f"has the id of row {seen[record['id']]}")
        seen.setdefault(record["id"], number)
        for field in REQUEST[1:]:
            value = row.get(field)
            if value is not None and not isinstance(value, str | int | float):
                faults.add(number, f"{field} is a {type(value).__name__}; expected a text")
            elif value not in (None, ""):
                record[field] = str(value)
        models = row.get("models")
        if not isinstance(models, Mapping) or not models:
            faults.add(number, "has no `models`; expected fields by model")
            continue
        record["models"] = {
            str(model): _fields(number, str(model), own, faults, scale)
            for model, own in models.items()
        }
        records.append(record)
    return records


def _fields(
    number: int, model: str, own: Any, faults: Faults, scale: tuple[float, float]
) -> Record:
    if not isinstance(own, Mapping):
        own = {"score": own}
    found: Record = {}
    quantiles = own.get("logprob_quantiles")
    if isinstance(quantiles, Mapping):
        own = {**own, **{f"logprob_q{name}": value for name, value in quantiles.items()}}
    for field, value in own.items():
        if value is None or value == "" or field == "logprob_quantiles":
            continue
        if field in WORDS:
            found[field] = str(value)
        elif field == "score" or field in NUMBERS:
            value = _number(value)
            fault = "is no number" if value is None else _fault(field, value, scale)
            if fault:
                faults.add(number, f"{field} {fault}", model)
            elif value is not None:
                low, high = scale
                found[field] = (value - low) / (high - low) if field == "score" else value
        else:
            faults.add(number, f"a field that is none of {', '.join(FIELDS)}", model)
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _YES + _NO:
            return float(text in _YES)
        try:
            value = float(text)
        except ValueError:
            return None
    if not isinstance(value, numbers.Real):
        return None
    return float(value) if math.isfinite(value) else None


def _fault(field: str, value: float, scale: tuple[float, float]) -> str | None:
    if field == "score":
        low, high = scale
        return None if low <= value <= high else f"is {value:g}; expected {low:g} to {high:g}"
    if field == "parsed":
        return None if value in (0.0, 1.0) else f"is {value:g}; expected 0 or 1"
    if field.startswith("logprob"):
        return None if value <= 0.0 else f"is {value:g}; a log-probability is not above 0"
    return None if value >= 0.0 else f"is {value:g}; expected 0 or more"


def models_of(records: Iterable[Record]) -> list[str]:
    """All models that a record names, in the order they first come."""
    return list(dict.fromkeys(model for record in records for model in record["models"]))


Scorer = Callable[[str, str], float]


def scored(records: Sequence[Record], scorer: Scorer) -> None:
    """Score answers against the right ones, where both are there and no score is."""
    for record in records:
        right = record.get("right")
        for own in record["models"].values():
            if "score" not in own and right is not None and own.get("answer") is not None:
                own["score"] = float(scorer(own["answer"], right))
