"""Stages in pieces: each piece is caught by itself, bounded in time, and written when it is done.

A stage yields names and what is to be called for each. What comes of it is on the disk before the
next one begins, so whatever happens then costs nothing that was found.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gpu.results import Report

Work = Callable[[], Any]  # gives JSON
GRACE = 4.0  # seconds that a piece may go on behind its stage's limit
LEAST = 3.0  # seconds with less than which no piece is begun
LOST = 3  # exit status of a process whose device does not answer any more


class Expired(BaseException):
    """A piece took too long. No `Exception`: code that catches faults must not go on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Pieces of work in the order of their worth."""

    name: str
    seconds: float
    pieces: Callable[[Any], Iterator[tuple[str, Work]]]


def share(seconds: float, weights: Sequence[float]) -> float:
    """What the first of some stages may take of the time that is left."""
    return seconds * weights[0] / sum(weights)


def run(stage: Stage, bench: Any, report: Report) -> None:
    """Do a stage's pieces until it is done or its time is up.

    Raises:
        SystemExit: with `LOST`, where the device does not answer any more.
    """
    begun = time.time()
    until = begun + stage.seconds
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
        report.keep(stage.name, name, value, time.time() - piece)
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
