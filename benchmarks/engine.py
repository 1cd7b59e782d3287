"""The engine against the closed call it replaced: time in batches, and waiting under arrivals.

    python benchmarks/engine.py --before FOLDER --bundle FOLDER --texts FILE.csv

`--before` is a checkout of a commit before the engine, whose `answer` runs in a process of its own.
Both processes have one thread and take turns. Time is CPU time, so that neighbours on the machine
disturb little; glibc is told to keep freed memory, see `runtime_cpu`. In batches, calls have as
many texts as a batch.

Arrivals are a Poisson process on a clock of CPU time, which jumps where there is nothing to do.
The engine takes rows as they come, and steps. The closed call is given micro-batches: whatever came
within 2 ms of the first row, or while the call before was running. A row's latency is the time from
its arrival to its answer; tokenising is left out on both sides.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BATCHES = (1, 8, 32, 128)
LOADS = (0.5, 0.9)
BATCH = 32  # of the arrivals
DEADLINE = 0.01  # seconds after which a row's batch runs, full or not
WINDOW = 0.002  # seconds of a micro-batch
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
}
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout without the engine")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--why", default="", help="why the former code is of that commit")
    parser.add_argument("--count", type=int, default=256, help="texts of a round")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--arrivals", type=int, default=1000, help="rows of a run at a load")
    parser.add_argument("--runs", type=int, default=3, help="runs at a load")
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--loads", type=float, nargs="*", default=list(LOADS))
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds after arrival")
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "house.json"
    parser.add_argument("--record", type=Path, default=default)
    parser.add_argument("--worker", action="store_true", help="answer commands on standard input")
    given = parser.parse_args()
    if given.worker:
        Worker(given).serve()
    elif given.before is None:
        parser.error("--before is needed: a checkout without the engine")
    else:
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Both versions, taking turns; writes the record."""
    import records

    here = Path(__file__).resolve().parent.parent
    sides = {"before": Side(given.before.resolve(), given), "after": Side(here, given)}
    name = given.bundle.parent.name if given.bundle.name == "bundle" else given.bundle.name
    try:
        times = {str(batch): rounds(sides, batch, given.repeats) for batch in given.batches}
        ratios = {batch: ratio(found, np.median) for batch, found in times.items()}
        fastest = {batch: ratio(found, np.min) for batch, found in times.items()}
        print(json.dumps([ratios, fastest]), flush=True)
        pace = float(np.median([sides["before"].ask("batch", BATCH) for _ in range(3)]))
        capacity = given.count / pace  # rows a second
        arrivals = [at_load(sides, load, capacity, name, given) for load in given.loads]
    finally:
        for side in sides.values():
            side.close()
    kept = records.read(given.record)
    kept["engine_time_ratio"] = kept.get("engine_time_ratio", {}) | {name: ratios}
    measured = [(line["data"], line["load"]) for line in arrivals]
    others = [x for x in kept.get("arrivals", []) if (x["data"], x["load"]) not in measured]
    kept["arrivals"] = others + arrivals
    kept["engine_measured"] = kept.get("engine_measured", {}) | {
        name: {
            "before": commit_of(given.before),
            "texts": given.count,
            "repeats": given.repeats,
            "rows_at_a_load": given.arrivals * given.runs,
            "fastest_round_ratio": fastest,
            "why_before": given.why,
            "deadline_seconds": given.deadline,
            "capacity_rows_a_second": round(capacity, 1),
        }
    }
    records.write(given.record, kept)
    print(json.dumps(kept, indent=1))


def rounds(sides: dict[str, Side], batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each version in rounds, taking turns."""
    spent: dict[str, list[float]] = {"before": [], "after": []}
    for repeat in range(repeats + 1):
        for name in ("before", "after") if repeat % 2 else ("after", "before"):
            took = sides[name].ask("batch", batch)
            if repeat:  # the first round warms up
                spent[name].append(took)
    return spent


def ratio(spent: dict[str, list[float]], of: Callable[[list[float]], Any]) -> float:
    """Time of the engine over that of the former call."""
    return round(float(of(spent["after"]) / of(spent["before"])), 4)


def at_load(
    sides: dict[str, Side], load: float, capacity: float, name: str, given: argparse.Namespace
) -> dict[str, Any]:
    """Mean and 99th percentile of latencies at a share of the capacity, over several runs."""
    latencies: dict[str, list[list[float]]] = {"before": [], "after": []}
    for run in range(given.runs):
        for side, found in latencies.items():
            found.append(sides[side].ask("arrivals", load * capacity, given.seed + run))
    line: dict[str, Any] = {"data": name, "load": load}
    told = {side: np.array(found) for side, found in latencies.items()}
    for measure, of in (("mean", np.mean), ("p99", lambda each: np.percentile(each, 99))):
        before, after = float(of(told["before"])), float(of(told["after"]))
        line |= {
            f"{measure}_ratio": round(after / before, 3),
            f"{measure}_ms": {"before": round(1e3 * before, 2), "after": round(1e3 * after, 2)},
        }
    print(json.dumps(line), flush=True)
    return line


class Side:
    """A version of the code in a process of its own."""

    def __init__(self, code: Path, given: argparse.Namespace) -> None:
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(code)}
        command = [sys.executable, __file__, "--worker"]
        for option in ("bundle", "texts", "count", "arrivals", "seed", "deadline"):
            command += [f"--{option}", str(getattr(given, option))]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *command: Any) -> Any:
        """What the worker says to a command."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Worker:
    """Answers commands: times of batches, latencies of arrivals."""

    def __init__(self, given: argparse.Namespace) -> None:
        import adaptive
        from adaptive.bundle.store import load_bundle

        self.has_engine = (Path(adaptive.__file__).parent / "engine").is_dir()
        # the module lay elsewhere before the engine
        tokens = import_module("adaptive.text.tokens" if self.has_engine else "adaptive.tokens")
        torch.set_num_threads(1)
        self.given, self.select = given, tokens.select
        self.bundle = load_bundle(given.bundle, uncertified=True)
        with given.texts.open(newline="", encoding="utf-8") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
        random = np.random.default_rng(given.seed)
        chosen = [texts[at] for at in random.permutation(len(texts))[: given.count]]
        self.rows = tokens.tokenize(
            self.bundle.tokenizer, chosen, max_length=self.bundle.max_length
        )

    def serve(self) -> None:
        """Commands are lines of JSON."""
        for line in sys.stdin:
            name, *given = json.loads(line)
            print(json.dumps(getattr(self, name)(*given)), flush=True)

    def batch(self, size: int) -> float:
        """CPU seconds for all rows, in calls of so many."""
        answer = self.closed_call()
        starts = range(0, len(self.rows), size)
        calls = [self.part(np.arange(i, min(i + size, len(self.rows)))) for i in starts]
        begun = time.process_time()
        for rows in calls:
            answer(self.bundle, rows, self.bundle.policy, size, whole=False)
        return time.process_time() - begun

    def arrivals(self, rate: float, seed: int) -> list[float]:
        """Seconds from arrival to answer of rows that come at a rate, in rows a second."""
        random = np.random.default_rng(seed)
        due = np.cumsum(random.exponential(1 / rate, self.given.arrivals))
        which = random.integers(0, len(self.rows), self.given.arrivals)
        way = self.by_engine if self.has_engine else self.by_micro_batches
        found: list[float] = (way(due, which) - due).tolist()
        return found

    def by_engine(self, due: Floats, which: NDArray[np.int64]) -> Floats:
        """When each row is answered by an engine that they are given as they come."""
        from adaptive.engine import Engine

        clock = Clock()
        engine = Engine(self.bundle, self.bundle.policy, BATCH, whole=False, clock=clock)
        done, owner, come = np.zeros(len(due)), np.zeros(len(due), np.int64), 0
        while come < len(due) or not engine.idle:
            if engine.idle:
                clock.wait_until(due[come])
            new = int(np.searchsorted(due, clock(), side="right"))
            if new > come:
                rows, until = self.part(which[come:new]), due[come:new] + self.given.deadline
                owner[engine.submit(rows, until)] = np.arange(come, new)
                come = new
            finished = engine.step()
            finished.answers()
            done[owner[finished.slots]] = clock()
        return done

    def by_micro_batches(self, due: Floats, which: NDArray[np.int64]) -> Floats:
        """When each row is answered by closed calls on whatever came meanwhile."""
        answer, clock = self.closed_call(), Clock()
        done, first = np.zeros(len(due)), 0
        while first < len(due):
            clock.wait_until(due[first])
            until = max(clock(), due[first] + WINDOW)
            stop = min(int(np.searchsorted(due, until, side="right")), first + BATCH)
            # a full batch goes as soon as its last row came
            clock.wait_until(due[stop - 1] if stop - first == BATCH else until)
            rows = self.part(which[first:stop])
            answer(self.bundle, rows, self.bundle.policy, BATCH, whole=False)
            done[first:stop], first = clock(), stop
        return done

    def closed_call(self) -> Any:
        """`answer`, wherever this version has it; of the engine as the pipeline calls it."""
        if not self.has_engine:
            from adaptive.cascade import answer

            return answer
        from adaptive.engine import Engine, answer_by

        engines: dict[int, Engine] = {}  # the pipeline keeps them for calls of few rows

        def call(bundle: Any, rows: Any, policy: Any, size: int, *, whole: bool) -> Any:
            if size not in engines:
                engines[size] = Engine(bundle, policy, size, whole=whole)
            return answer_by(engines[size], rows)

        return call

    def part(self, rows: NDArray[np.int64]) -> Any:
        """The given rows, as a call's."""
        return self.select(self.rows, rows)


class Clock:
    """CPU time, and what was waited."""

    def __init__(self) -> None:
        self._waited = -time.process_time()

    def __call__(self) -> float:
        return time.process_time() + self._waited

    def wait_until(self, moment: float) -> None:
        """Nothing is to be done until then."""
        self._waited += max(0.0, moment - self())


def commit_of(folder: Path) -> str:
    """The commit that a checkout is at."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
