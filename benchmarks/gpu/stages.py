"""Stages in pieces: each piece is caught by itself, bounded in time, and written when it is done.

A stage yields names and what is to be called for each. What comes of it goes into one file at
once, written beside and put in its place, so that whatever happens next costs nothing that was
found.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], Any]  # gives JSON
GRACE = 4.0  # seconds that a piece may go on behind its stage's limit
LEAST = 3.0  # seconds with less than which no piece is begun
LOST = 3  # exit status of a process whose device does not answer any more


class Expired(BaseException):
    """A piece took too long. No `Exception`, lest one that looks for faults goes on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Pieces of work in the order of their worth."""

    name: str
    seconds: float
    pieces: Callable[[Any], Iterator[tuple[str, Work]]]


class Report:
    """What was found so far, in memory and in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, Any] = read(file)
        self.found.setdefault("stages", {})

    def write(self, **told: Any) -> None:
        """Put values at the top, and all of it on the disk."""
        self.found |= told
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.file)

    def tell(self, stage: str, **told: Any) -> None:
        """What is known of a stage."""
        self.found["stages"].setdefault(stage, {"pieces": {}}).update(told)
        self.write()

    def keep(self, stage: str, piece: str, value: Any) -> None:
        """What came of a piece."""
        self.found["stages"][stage]["pieces"][piece] = value
        self.write()


def read(file: Path) -> dict[str, Any]:
    """What a report has written; empty where it has not yet."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def run(stage: Stage, bench: Any, report: Report, ends: float) -> None:
    """Do a stage's pieces until it is done or its time is up.

    Args:
        ends: `time.time()` at which everything has to be done.

    Raises:
        SystemExit: with `LOST`, where the device does not answer any more.
    """
    begun = time.time()
    until = min(begun + stage.seconds, ends)
    report.tell(stage.name, state="running", until=until)
    state, left_out = "done", []
    for name, work in stage.pieces(bench):
        if until - time.time() < LEAST:
            left_out.append(name)
            continue
        print(f"{stage.name}: {name}", flush=True)
        piece = time.time()
        try:
            with alarm(until - time.time() + GRACE):
                value = work()
        except Expired:
            state, value = "cut", {"error": "took too long"}
        except Exception as error:  # the other pieces are done
            value = failure(error)
        report.keep(stage.name, name, value)
        spent = report.found["stages"][stage.name].setdefault("seconds_of", {})
        spent[name] = round(time.time() - piece, 2)
        if "error" in value and not answers(bench.device):
            report.tell(stage.name, state="device lost", seconds=round(time.time() - begun, 1))
            raise SystemExit(LOST)
    if left_out:
        state = "cut"
    told = {"left_out": left_out} if left_out else {}
    report.tell(stage.name, state=state, seconds=round(time.time() - begun, 1), **told)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises `Expired` inside, when the time is up."""

    def ring(number: int, frame: Any) -> None:
        raise Expired

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def failure(error: BaseException) -> dict[str, Any]:
    """An error, and where it came from."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    print("\n".join(lines[-12:]), flush=True)
    return {"error": lines[-1][:500], "traceback": lines[-12:]}


def answers(device: torch.device) -> bool:
    """Whether a device still computes; behind some errors a process has lost it."""
    try:
        return float(torch.ones(2, device=device).sum()) == 2.0
    except RuntimeError:
        return False
