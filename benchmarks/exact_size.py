"""How often the test of a drop in accuracy can be wrong at worst: sums over outcomes, no draws.

    python benchmarks/exact_size.py

For each number of rows, level, accuracy and error the outcomes that are certified are enumerated,
and their chance is summed where accuracy drops by exactly the level. The share of discordant rows
(and in small samples the full model's accuracy) is then chosen so as to make that chance as great
as it gets: first on a grid, then by golden sections around its best point.

`margin` is the test against a constant margin; `paired` the one that bounds the full model's
accuracy from the same rows, for all outcomes of few rows. Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import records
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from adaptive.risk import paired, paired_margin

Floats = NDArray[np.float64]
ROWS = (50, 200, 1_000)
FEW = (10, 20, 30)
LEVELS, ACCURACIES, DELTAS = (0.005, 0.01, 0.02, 0.05), (0.7, 0.95), (0.1, 0.05, 0.01)
MOST = 0.2  # share of discordant rows; with more of them the chance falls
GRID = 60  # points of a parameter before the best is refined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "records" / "certificate.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    found = everything()
    record = records.read(given.record) | {"exact_size_worst": found}
    records.write(given.record, record)
    print(json.dumps({name: each for name, each in found.items() if name != "cases"}, indent=1))


def everything() -> dict[str, Any]:
    """The worst cases of both tests, the worst of all first."""
    cases = [
        margin_case(rows, level * accuracy, delta)
        for rows, level, accuracy, delta in product(ROWS, LEVELS, ACCURACIES, DELTAS)
    ]
    cases += [
        paired_case(rows, level, delta) for rows, level, delta in product(FEW, (0.05, 0.2), DELTAS)
    ]
    cases.sort(key=lambda case: -case["size"] / case["delta"])
    return {
        "what": "chance of a wrong certificate at the worst truth found, over delta",
        "worst": cases[0]["size"] / cases[0]["delta"],
        "cases": cases,
    }


def margin_case(rows: int, margin: float, delta: float) -> dict[str, Any]:
    """The worst discordant share for the test against a constant margin."""
    most = certified(rows, margin, delta)
    better = np.arange(len(most))

    def size(discordant: float) -> float:
        fewer, more = (discordant - margin) / 2.0, (discordant + margin) / 2.0
        weight = stats.binom.pmf(better, rows, fewer)
        share = more / (1.0 - fewer)
        return float(weight @ stats.binom.cdf(most, rows - better, share))

    at, worst = greatest(size, margin, max(MOST, 2.0 * margin))
    return {
        "test": "margin", "rows": rows, "margin": margin, "delta": delta,
        "discordant": at, "size": worst,
    }  # fmt: skip


def certified(rows: int, margin: float, delta: float) -> Floats:
    """For each number of better rows the most worse rows that are certified, -1 where none are."""
    high = max(MOST, 2.0 * margin)
    mean = rows * (high - margin) / 2.0
    last = min(rows, int(mean + 6.0 * np.sqrt(mean) + 6.0))
    found, worse = np.full(last + 1, -1.0), -1
    for better in range(last + 1):
        while worse < rows - better:
            if float(paired_margin(worse + 1, better, rows, margin, delta=delta)) > delta:
                break
            worse += 1
        found[better] = worse
    return found


def paired_case(rows: int, level: float, delta: float) -> dict[str, Any]:
    """The worst discordant share and accuracy for the test that bounds the accuracy itself."""
    counts = np.array([c for c in product(range(rows + 1), repeat=3) if sum(c) <= rows])
    cells = np.concatenate([counts, rows - counts.sum(1, keepdims=True)], 1)
    passing = cells[paired(*counts.T, rows, level, accuracy=0.9, delta=delta) <= delta]

    def size(accuracy: float, share: float) -> float:
        better = share * min(1.0 - accuracy, accuracy * (1.0 - level))
        worse = better + level * accuracy
        chances = np.array([worse, better, accuracy - worse, 1.0 - accuracy - better]).clip(0.0)
        return float(stats.multinomial.pmf(passing, rows, chances / chances.sum()).sum())

    best = (0.0, 0.0, 0.0)
    for accuracy in np.linspace(0.02, 1.0, GRID // 2).tolist():
        at, worst = greatest(lambda share, a=accuracy: size(a, share), 0.0, 1.0)
        best = max(best, (worst, accuracy, at))
    return {
        "test": "paired", "rows": rows, "level": level, "delta": delta,
        "accuracy": best[1], "share": best[2], "size": best[0],
    }  # fmt: skip


def greatest(size: Any, low: float, high: float) -> tuple[float, float]:
    """Where a function is greatest, and its value there."""
    points = np.linspace(low, high, GRID)
    values = [size(float(point)) for point in points]
    at = int(np.argmax(values))
    ends = (points[max(at - 1, 0)], points[min(at + 1, GRID - 1)])
    near = minimize_scalar(lambda x: -size(float(x)), bounds=ends, method="bounded")
    if -near.fun > values[at]:
        return float(near.x), float(-near.fun)
    return float(points[at]), float(values[at])


if __name__ == "__main__":
    main()
