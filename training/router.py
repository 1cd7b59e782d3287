"""`python -m adaptive.training.router --outcomes FILE --out FOLDER`: a router, trained offline.

FILE is the work folder of a build, whose *fit* rows the router learns from and whose *search* rows
it is judged on; or an outcome table `NAME.safetensors` with `NAME.routing.safetensors` beside it;
or a safetensors file with `features` [n, F] and `worse` [n, m] alone. Rows of a file are dealt at
random, half to learn from.

A bundle does not do: it keeps no features, because texts can be guessed from embeddings, and
bundles are published.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.files import read_numpy
from adaptive.bundle.outcomes import load_outcomes
from adaptive.config.targets import read_target
from adaptive.errors import AdaptiveError, BuildError, DataError
from adaptive.measure.timing import with_router
from adaptive.measure.work import routed
from adaptive.policy.costs import CostTable
from adaptive.policy.worth import concatenate, worse_of
from adaptive.routers.router import KINDS
from adaptive.routers.train import train_router
from adaptive.training.learn.routers import costs_with_and_without, save_router
from adaptive.training.measure_costs import read_costs
from adaptive.types import OutcomeTable, Stage, Target

_SPLITS = ("fit", "search")  # of a work folder: to learn from, and to be judged on


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a router is trained on."""

    features: NDArray[np.float32]  # [n, F]
    worse: NDArray[np.bool_]  # [n, m]
    held_out: float | NDArray[np.int64]  # share or numbers of the rows to judge on
    table: OutcomeTable | None  # of all rows, where there is one
    costs: tuple[CostTable, CostTable] | None  # measured and counted, without a router


def main(argv: Sequence[str] | None = None) -> int:
    """Train, report, write; the process's exit code."""
    parser = argparse.ArgumentParser(description="Train a router on recorded outcomes.")
    parser.add_argument("--outcomes", type=Path, required=True, metavar="FILE", help="see above")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--kind", choices=KINDS, default="logistic")
    parser.add_argument("--costs", type=Path, metavar="FOLDER", help="of costs.json and work.json")
    parser.add_argument("--target", default=None, metavar="METRIC=LEVEL")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    try:
        report = train(given.outcomes, given.out, given.kind, given.target, given.costs, given.seed)
    except (AdaptiveError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines_of(report)))
    return 0


def train(
    outcomes: Path,
    out: Path,
    kind: str = "logistic",
    target: str | None = None,
    costs: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a router and write it, with `report.json`, into a folder.

    Args:
        outcomes: as the module says.
        target: whose cost is told, such as `accuracy_drop=0.01`; None for that, or for
            `agreement=0.99` of rows without labels.
        costs: the folder of a build's step `costs`; a work folder has its own.

    Returns:
        The report of `train_router`, and `costs` where there are costs and a table.

    Raises:
        AdaptiveError, ValueError: files that are missing or do not fit each other.
    """
    recorded = read_recorded(outcomes, costs)
    lengths = None if recorded.table is None else recorded.table.tokens
    trained = train_router(
        recorded.features,
        recorded.worse,
        kind,
        lengths=lengths,
        held_out=recorded.held_out,
        seed=seed,
    )
    report = trained.report
    if recorded.table is not None and recorded.costs is not None:
        rows = trained.held_out
        table, (measured, work) = recorded.table.take(rows), recorded.costs
        asked = target or ("accuracy_drop=0.01" if table.worth.known else "agreement=0.99")
        report["target"] = asked
        report["costs"] = costs_with_and_without(
            trained.router,
            recorded.features[rows],
            table,
            measured,
            with_router(measured, routed(work, trained.router)),
            [Target(**read_target(asked))],
            seed=seed,
        )
    out.mkdir(parents=True, exist_ok=True)
    save_router(trained.router, out)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def read_recorded(path: Path, costs: Path | None = None) -> Recorded:
    """Features and outcomes from one of the places that the module names.

    Raises:
        DataError: it is none of these, or lacks a file.
        BuildError: a work folder's costs are of an earlier version.
    """
    if (path / "bundle.json").is_file():
        raise DataError(
            f"{path} is a bundle, which keeps no features for a router; give the work folder of "
            "its build"
        )
    if path.is_dir():
        return _of_a_build(path, path / "costs" if costs is None else costs)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    priced = None if costs is None else _costs(costs)
    arrays, metadata = read_numpy(path, path.name)
    if "stages" not in metadata:
        if set(arrays) != {"features", "worse"}:
            raise DataError(
                f"{path}: expected an outcome table, or features and worse; found {sorted(arrays)}"
            )
        return Recorded(arrays["features"], arrays["worse"].astype(bool), 0.5, None, None)
    table, features = _table(path)
    return Recorded(features, worse_of(table), 0.5, table, priced)


def _of_a_build(folder: Path, costs: Path) -> Recorded:
    """The fit rows of a work folder, then its search rows, which are to be judged on."""
    fit, search = (_table(folder / "outcomes" / f"{split}.safetensors") for split in _SPLITS)
    later = len(fit[0]) + np.arange(len(search[0]))
    return Recorded(
        np.concatenate([fit[1], search[1]]),
        np.concatenate([worse_of(fit[0]), worse_of(search[0])]),
        later,
        concatenate([fit[0], search[0]]),
        _costs(costs),
    )


def lines_of(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    rows = report["rows"]
    told = [f"{report['kind']}: {rows['fitted']:,} rows fitted, {rows['held_out']:,} held out"]
    for number, tier in enumerate(report["tiers"]):
        line = f"tier {number}: worse on {tier['worse']:.2%}"
        if tier["auc"] is not None:
            line += f", AUC {tier['auc']:.3f}"
            if tier["auc_by_length"] is not None:
                line += f" (by length {tier['auc_by_length']:.3f})"
        told.append(
            f"{line}, log loss {tier['log_loss']:.4f} (constant {tier['log_loss_constant']:.4f})"
        )
    for name, found in report.get("costs", {}).items():
        what = f"{report['target']}, {name} the router: "
        if found is None:
            told.append(f"{what}no policy keeps it")
            continue
        kept = "kept" if found["excess"] <= 0 else f"missed by {found['excess']:.4f}"
        told.append(f"{what}{found['cost']:.4g} {found['unit']} a text, {kept}")
    return told


def _table(file: Path) -> tuple[OutcomeTable, NDArray[np.float32]]:
    """An outcome table and the features beside it."""
    beside = file.with_suffix(".routing.safetensors")
    for each in (file, beside):
        if not each.is_file():
            raise DataError(f"{each}: no such file; step `outcomes` of a build writes it")
    _, metadata = read_numpy(file, file.name)
    stages = tuple(Stage(*each) for each in json.loads(metadata.get("stages", "[]")))
    if not stages:
        raise DataError(f"{file}: is no outcome table, it names no stages")
    table = load_outcomes(file, stages, file.name)
    features = read_numpy(beside, beside.name)[0]["features"]
    if len(features) != len(table):
        raise DataError(f"{beside}: features of {len(features)} rows, the table has {len(table)}")
    return table, features


def _costs(folder: Path) -> tuple[CostTable, CostTable]:
    """The measured and the counted table of a build's step `costs`."""
    files = [folder / f"{name}.json" for name in ("costs", "work")]
    for file in files:
        if not file.is_file():
            raise BuildError(f"{file}: no such file; build again, step `costs` writes it")
    measured, work = map(read_costs, files)
    return measured, work


if __name__ == "__main__":
    sys.exit(main())
