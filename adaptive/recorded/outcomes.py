"""Recorded outcomes: what each of several models made of the same requests.

Letters in shapes: n requests, m models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import DataError

Floats = NDArray[np.float64]
Words = NDArray[np.object_]  # text, or None where nothing was recorded

# of a request
REQUEST = ("id", "prompt", "group", "session", "date", "right")
# of a model's answer: numbers from 0 on, except log-probabilities
NUMBERS = (
    "tokens_in",
    "tokens_out",
    "characters",  # of the answer
    "cost",  # dollars
    "milliseconds",
    "logprob_mean",  # of the answer's tokens
    "logprob_q05",  # quantiles of them
    "logprob_q25",
    "logprob_q50",
    "parsed",  # 1 where the answer had the form asked for, else 0
)
WORDS = ("answer", "finish_reason", "model")  # `model`: the name that came back
FIELDS = ("score", *NUMBERS, *WORDS)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Requests x models. A field that no request has is left out of `numbers` and `words`."""

    ids: tuple[str, ...]  # [n]
    models: tuple[str, ...]  # [m]
    score: Floats  # [n, m] in [0, 1], NaN where it is not known
    numbers: Mapping[str, Floats] = field(default_factory=dict)  # each [n, m], NaN: not recorded
    words: Mapping[str, Words] = field(default_factory=dict)  # each [n, m]
    requests: Mapping[str, Words] = field(default_factory=dict)  # each [n]: prompt, group, ...

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompts(self) -> list[str]:
        """Each request's text, empty where none was recorded."""
        found = self.requests.get("prompt")
        return [""] * len(self) if found is None else [each or "" for each in found]

    def take(self, rows: NDArray[np.integer]) -> Outcomes:
        """The given requests, in the given order."""
        return Outcomes(
            tuple(self.ids[row] for row in rows.tolist()),
            self.models,
            self.score[rows],
            {name: each[rows] for name, each in self.numbers.items()},
            {name: each[rows] for name, each in self.words.items()},
            {name: each[rows] for name, each in self.requests.items()},
        )

    def only(self, models: Sequence[str]) -> Outcomes:
        """The given models, in the given order.

        Raises:
            DataError: a model that is not there, or one named twice.
        """
        unknown = [name for name in models if name not in self.models]
        if unknown:
            raise DataError(
                f"no outcomes of {', '.join(unknown)}; the file has {', '.join(self.models)}"
            )
        if len(set(models)) < len(models):
            raise DataError(f"a model is named twice: {', '.join(models)}")
        columns = [self.models.index(name) for name in models]
        return replace(
            self,
            models=tuple(models),
            score=self.score[:, columns],
            numbers={name: each[:, columns] for name, each in self.numbers.items()},
            words={name: each[:, columns] for name, each in self.words.items()},
        )


def from_records(records: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Outcomes:
    """Outcomes of records that are known to be right, see `adaptive.recorded.records`."""
    size = (len(records), len(models))
    score = np.full(size, np.nan)
    numbers: dict[str, Floats] = {}
    words: dict[str, Words] = {}
    requests: dict[str, Words] = {}
    for row, record in enumerate(records):
        for name in REQUEST[1:]:
            if record.get(name) is not None:
                requests.setdefault(name, np.full(len(records), None, object))[row] = record[name]
        for place, model in enumerate(models):
            for name, value in record["models"].get(model, {}).items():
                if name == "score":
                    score[row, place] = value
                elif name in WORDS:
                    words.setdefault(name, np.full(size, None, object))[row, place] = value
                else:
                    numbers.setdefault(name, np.full(size, np.nan))[row, place] = value
    ids = tuple(str(record["id"]) for record in records)
    return Outcomes(ids, tuple(models), score, numbers, words, requests)
