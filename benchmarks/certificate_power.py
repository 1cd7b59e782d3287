"""How often a promise that holds is certified, and one that just fails: all by simulation.

    python benchmarks/certificate_power.py

The promise: accuracy falls by at most 1 % of the full model's, error 5 %. `power` is for cheaper
models that keep it: one worse on 0.5 % of the rows and better on 0.2 %, and one of the same drop
that disagrees more. `type1` is for one whose drop is exactly 1 %: every certificate is wrong.
Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from adaptive.risk import rows_for_paired
from adaptive.risk.tables import drop_table

SIZES = (1_000, 2_000, 5_000, 10_000)
LEVEL, DELTA, ACCURACY = 0.01, 0.05, 0.95
TRUTHS = ((0.005, 0.002), (0.012, 0.009))  # worse, better
POWER_DRAWS, ERROR_DRAWS, ERROR_ROWS = 1_000, 2_000, (1_000, 5_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "certificate_power.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    begun = time.perf_counter()
    record = {
        "promise": {"metric": "accuracy_drop", "level": LEVEL, "delta": DELTA},
        "full_accuracy": ACCURACY,
        "draws": POWER_DRAWS,
        "seed": given.seed,
        "power": powers(given.seed),
        "type1": errors(given.seed),
        "seconds": round(time.perf_counter() - begun, 1),
        "machine": {"processor": platform.machine(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
    given.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def powers(seed: int) -> list[dict[str, Any]]:
    """For each truth the shares certified and the rows that certify."""
    return [
        {
            "worse": worse,
            "better": better,
            "certified": table(SIZES, worse, better, POWER_DRAWS, seed),
            "rows_needed": {str(p): needed(worse, better, p) for p in (0.5, 0.8, 0.9, 0.95)},
        }
        for worse, better in TRUTHS
    ]


def table(
    sizes: tuple[int, ...], worse: float, better: float, draws: int, seed: int
) -> list[dict[str, float]]:
    """Shares certified."""
    lines = drop_table(
        sizes,
        worse=worse,
        better=better,
        level=LEVEL,
        accuracy=ACCURACY,
        delta=DELTA,
        draws=draws,
        seed=seed,
    )
    return [{name: round(value, 4) for name, value in line.items()} for line in lines]


def needed(worse: float, better: float, power: float) -> int | None:
    """Rows that the exact test needs, by formula."""
    return rows_for_paired(worse, better, ACCURACY - worse, LEVEL, delta=DELTA, power=power)


def errors(seed: int, draws: int = ERROR_DRAWS) -> list[dict[str, Any]]:
    """Wrong certificates where the drop is the level itself."""
    better = TRUTHS[0][1]
    lines = table(ERROR_ROWS, LEVEL * ACCURACY + better, better, draws, seed)
    return [
        {
            "what": f"{name}, {line['n']} rows",
            "draws": draws,
            "wrong": round(share * draws),
            "delta": DELTA,
        }
        for line in lines
        for name, share in line.items()
        if name not in ("n", "betting_formula")
    ]


if __name__ == "__main__":
    main()
