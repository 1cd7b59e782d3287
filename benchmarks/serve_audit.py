"""The live promise: how often it raises a false alarm, and how soon it finds a drift.

    python benchmarks/serve_audit.py --work FOLDER --foreign FILE.csv

`adaptive.serve.audit` draws answers at random, has the full tier give them too, and bets on how
often both differ. Here that test runs on outcome tables, thousands of streams at once: in each row
of a stream one audited text is drawn from a table.

quiet    streams of a promise that is kept, 5,000 audited texts long: the share that ever raises an
         alarm. The hardest of them differ exactly as often as they may. Where the promise needs
         labels, the limit comes from certification rows that are drawn anew in each stream, as
         `Audit` sets it, so that two errors of alpha add up
drift    after 500 quiet texts a share of the traffic comes from elsewhere: audited texts until
         the alarm

Recorded tables are a build's work folder: streams are drawn from its certification and test rows
together, and its packed policy answers them. Elsewhere is, of these, the tenth of the classes on
which the policy differs most, and texts that are none of the bundle's (`--foreign`).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import records
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.bundle.outcomes import load_outcomes
from adaptive.bundle.store import load_bundle
from adaptive.measure.recording import outcomes
from adaptive.policy.lookup import Lookup
from adaptive.risk import upper
from adaptive.risk.drift import DriftTest, bet, bets_on
from adaptive.text import tokens as token_rows
from adaptive.types import OutcomeTable

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from tiny_population import COSTS, Population, answering

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]  # losses of one row of so many streams
ALPHA = 0.01  # the server's default
ROWS, QUIET, MOST = 5000, 500, 5000
LEVEL = 0.02
CHECKED = 5  # streams that `DriftTest` itself runs, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, nargs="*", default=[], help="work folders of builds")
    parser.add_argument("--foreign", type=Path, help="texts of none of the first one's classes")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    told = audit(given.work, given.foreign, given.runs, np.random.default_rng(given.seed))
    records.write(given.record, {**records.read(given.record), "audit": told})
    print(json.dumps(told, indent=1))


def audit(
    works: list[Path], foreign: Path | None, runs: int, rng: np.random.Generator
) -> dict[str, Any]:
    """All figures."""
    quiet, drift = made_up(runs, rng)
    for work in works:
        found = recorded(work, foreign if work == works[0] else None, runs, rng)
        quiet, drift = quiet + found[0], drift + found[1]
    return {
        "runs": runs,
        "rows": ROWS,
        "false_alarm_rate": max(each["false_alarm_rate"] for each in quiet),
        "allowed": ALPHA,
        "quiet": quiet,
        "quiet_rows": QUIET,
        "detection_delay": drift,
    }


def made_up(runs: int, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """A cheap stage that answers as many texts as it may, a half of them, and too many."""
    people = Population()
    table = people.draw(100_000, rng)
    lookup = Lookup.of(table, COSTS.at(table.tokens))

    def losses(rate: float) -> Floats:
        """Of 100,000 texts, so many of which differ: the population's own rate is not exact."""
        found = 1.0 - lookup.evaluate(answering(rate / (people.worse + people.better))).alike
        differ, alike = np.flatnonzero(found > 0), np.flatnonzero(found == 0)
        short = round(rate * len(found)) - len(differ)
        found[alike[:short] if short > 0 else differ[: -short or 0]] = float(short > 0)
        return found

    about = f"made-up texts, agreement={LEVEL:g}"
    quiet = [
        {
            "texts": f"{about}, {rate:g} differ",
            "allowed": ALPHA,
            "false_alarm_rate": false_alarms(from_rows(losses(rate)), np.full(runs, LEVEL), rng),
        }
        for rate in (LEVEL, LEVEL / 2.0)
    ]
    drift = [
        {
            "texts": f"{about}, {LEVEL / 2.0:g} differ, then {rate:g}",
            **delays(
                from_rows(losses(LEVEL / 2.0)),
                from_rows(losses(rate)),
                np.full(runs, LEVEL),
                rng,
            ),
        }
        for rate in (0.03, 0.05, 0.1)
    ]
    return quiet, drift


def recorded(
    work: Path, foreign: Path | None, runs: int, rng: np.random.Generator
) -> tuple[list[Any], list[Any]]:
    """Streams of a build's own held-out rows."""
    bundle = load_bundle(work / "bundle")
    names = ("certify", "test")
    tables = [
        load_outcomes(work / "outcomes" / f"{name}.safetensors", bundle.stages, name)
        for name in names
    ]
    differ = np.concatenate([unlike(bundle, table) for table in tables])
    labels = np.concatenate([table.labels for table in tables])
    count = len(tables[0])
    drawn = rng.binomial(count, differ.mean(), runs)  # certification rows of each stream
    known = {number: upper(number, count, ALPHA) for number in np.unique(drawn).tolist()}
    limits = np.array([known[number] for number in drawn.tolist()])
    about = f"{work.name}, {differ.mean():.4f} differ"
    quiet = [
        {
            "texts": f"{about}, limit from {count} certification rows",
            "allowed": 2.0 * ALPHA,
            "false_alarm_rate": false_alarms(from_rows(differ), limits, rng),
        }
    ]
    elsewhere = {"the worst tenth of the classes": differ[np.isin(labels, worst(differ, labels))]}
    if foreign is not None:
        elsewhere["texts of no class"] = unlike(bundle, table_of(bundle, foreign))
    drift = []
    for name, other in elsewhere.items():
        for share in (0.1, 0.5, 1.0):
            draw = mixed(from_rows(differ), from_rows(other), share)
            drift.append(
                {
                    "texts": f"{about}; then {share:.0%} are {name}",
                    "then_differ": float((1 - share) * differ.mean() + share * other.mean()),
                    **delays(from_rows(differ), draw, limits, rng),
                }
            )
    return quiet, drift


def unlike(bundle: Bundle, table: OutcomeTable) -> Floats:
    """Where the bundle's policy answers otherwise than the full tier, [n]."""
    assert bundle.costs is not None
    found: Floats = 1.0 - Lookup.of(table, bundle.costs.of(table)).evaluate(bundle.policy).alike
    return found


def worst(differ: Floats, labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """The tenth of the classes with the most differing rows among their own, at least one."""
    rows, lost = np.bincount(labels), np.bincount(labels, differ)
    rates = np.divide(lost, rows, out=np.zeros(len(rows)), where=rows > 0)
    found: NDArray[np.integer] = rates.argsort()[-max(1, len(rows) // 10) :]
    return found


def table_of(bundle: Bundle, file: Path) -> OutcomeTable:
    """A file's texts at every stage."""
    with file.open(encoding="utf-8", newline="") as lines:
        texts = [row["text"] for row in csv.DictReader(lines)]
    tokens = token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    return outcomes(bundle, tokens, np.full(len(texts), -1, np.int32), 32)


def from_rows(losses: Floats) -> Draw:
    """Rows drawn at random."""
    return lambda rng, streams: losses[rng.integers(len(losses), size=streams)]


def mixed(first: Draw, other: Draw, share: float) -> Draw:
    """A share of the rows from elsewhere."""

    def draw(rng: np.random.Generator, streams: int) -> Floats:
        return np.where(rng.random(streams) < share, other(rng, streams), first(rng, streams))

    return draw


class Streams:
    """As many live tests at once as there are levels, [s]."""

    def __init__(self, levels: Floats) -> None:
        self.levels, self.row = levels, 0
        kinds = {level: bets_on(level) for level in np.unique(levels).tolist()}
        self.bets = np.zeros((len(levels), max(map(len, kinds.values()))))
        self.shares = np.zeros_like(self.bets)  # of each gambler; high levels have fewer of them
        for level, bets in kinds.items():
            self.bets[levels == level, : len(bets)] = bets
            self.shares[levels == level, : len(bets)] = 1.0 / len(bets)
        self.invested = np.zeros_like(self.bets)
        self.greatest = np.ones(len(levels))
        self._checks = [DriftTest(level) for level in levels[:CHECKED].tolist()]

    def add(self, losses: Floats) -> None:
        """One more row of each."""
        self.row += 1
        over = (losses - self.levels)[:, None]
        self.invested = bet(self.invested, self.bets, over, self.row)
        capital = np.einsum("sb,sb->s", self.invested, self.shares) + 1.0 / (self.row + 1.0)
        np.maximum(self.greatest, capital, out=self.greatest)
        for test, loss in zip(self._checks, losses[:CHECKED].tolist(), strict=True):
            test.add(loss)

    @property
    def alarm(self) -> NDArray[np.bool_]:
        """Which have ever raised one, [s]."""
        for test, greatest in zip(self._checks, self.greatest.tolist(), strict=False):
            assert abs(test.greatest / greatest - 1.0) < 1e-9, "not what the server does"
        return self.greatest >= 1.0 / ALPHA


def false_alarms(draw: Draw, levels: Floats, rng: np.random.Generator) -> float:
    """The share of quiet streams that ever raise an alarm."""
    streams = Streams(levels)
    for _ in range(ROWS):
        streams.add(draw(rng, len(levels)))
    return float(streams.alarm.mean())


def delays(quiet: Draw, drift: Draw, levels: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """Audited texts until a drift is found, in streams that were quiet before it."""
    streams = Streams(levels)
    for _ in range(QUIET):
        streams.add(quiet(rng, len(levels)))
    early = streams.alarm
    found = np.full(len(levels), MOST + 1)
    for row in range(1, MOST + 1):
        streams.add(drift(rng, len(levels)))
        if row % 10 == 0 or row < 200:
            found[streams.alarm & (found > MOST)] = row
            if (found <= MOST).all():
                break
    found = found[~early]
    median, most = np.quantile(found, (0.5, 0.9))
    return {
        "found": float((found <= MOST).mean()),
        "median_rows": _told(median),
        "p90_rows": _told(most),
    }


def _told(rows: float) -> float | None:
    """None where so many are not found."""
    return None if rows > MOST else float(rows)


if __name__ == "__main__":
    main()
