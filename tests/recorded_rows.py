"""Made-up recorded outcomes, of which the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptive.recorded.faults import Faults
from adaptive.recorded.outcomes import Outcomes, from_records
from adaptive.recorded.records import checked

PRICES: dict[str, Any] = {
    "small": {"input": 1.0, "output": 1.0, "max_input": 100, "max_tokens": 100},
    "middle": {"input": 3.0, "output": 3.0, "max_input": 100, "max_tokens": 100},
    "large": {"input": 20.0, "output": 20.0, "max_input": 100, "max_tokens": 100},
}


def records(rows: int, seed: int = 0, drop: float = 0.0) -> list[dict[str, Any]]:
    """Requests of two kinds: the small model is right on easy ones, and `drop` of all it loses.

    The large model is always right on easy requests, and on nine of ten hard ones; its answer tells
    nothing. The small model's log-probability tells hard requests from easy ones, and so does a
    word of the prompt. The middle model is right where the large one is.
    """
    random = np.random.default_rng(seed)
    found = []
    for row in range(rows):
        hard = random.random() < 0.4
        large = not hard or random.random() < 0.9
        small = (not hard or random.random() < 0.2) and random.random() >= drop
        word = "integral" if hard else "sum"
        right = str(random.integers(100, 999))
        wrong = str(random.integers(0, 99))
        found.append(
            {
                "id": f"r{row}",
                "prompt": f"The {word} of case {row} and {random.integers(9999)}",
                "group": "analysis" if hard else "algebra",
                "right": right,
                "date": f"2026-0{1 + row % 9}-01",
                "models": {
                    name: {
                        "score": int(good),
                        "answer": right if good else wrong,
                        "tokens_in": 10,
                        "tokens_out": 10,
                        "logprob_mean": float(-(1.5 if hard else 0.2) - random.random()),
                        "model": f"{name}-0607",
                    }
                    for name, good in (("small", small), ("middle", large), ("large", large))
                },
            }
        )
    return found


def outcomes(rows: int, seed: int = 0, drop: float = 0.0) -> Outcomes:
    """The same, as they are read."""
    made = checked(list(enumerate(records(rows, seed, drop), 1)), Faults("made up"))
    return from_records(made, ["small", "middle", "large"])
