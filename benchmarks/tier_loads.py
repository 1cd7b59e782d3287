"""How often a build loads a tier from its files, step by step.

A tiny build of three tiers with two kinds of router is run, that of the tests: the number depends
on the recipe's parts and not on their sizes. Commit deadd0f made 31.

    python benchmarks/tier_loads.py --record benchmarks/records/house.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import records

sys.path.append(str(records.HERE.parent / "tests"))
from tiny_builds import build_in, counted_loads

BEFORE = 31  # at commit deadd0f, counted in the same build: policy 9, certify 6, pack 6


def main() -> None:
    """Build, count, tell, and write where a record is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, counted_loads(Path(made) / "run") as loads:
        build_in(Path(made))
    print(dict(loads), loads.total())
    if given.record is not None:
        told = {"before": BEFORE, "after": loads.total(), "steps": dict(loads)}
        records.write(given.record, records.read(given.record) | {"load_tier_calls": told})


if __name__ == "__main__":
    main()
