"""What a running step tells in the log: that it began, how far it is, what it took."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from adaptive.training.journal import Journal

EVERY = 30.0  # seconds between two lines of progress
logger = logging.getLogger(__name__)


@contextmanager
def telling(journal: Journal | None, label: str, *, lines: bool) -> Iterator[None]:
    """Tells in the log that a step begins and ends.

    Args:
        journal: where the step says how far it is; None where it does not.
        lines: whether to tell how far it is as well, every `EVERY` seconds: where no progress bar
            does.
    """
    if journal is not None:
        journal.place = None
    logger.info("%s: started", label)
    begun, done = time.perf_counter(), threading.Event()

    def tell() -> None:
        while not done.wait(EVERY):
            logger.info("%s: %s", label, how_far(journal, time.perf_counter() - begun))

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    if lines:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if lines:
            thread.join()
    logger.info("%s: done in %s", label, lasting(time.perf_counter() - begun))


def how_far(journal: Journal | None, elapsed: float) -> str:
    """How far the running step is, in a line.

    Args:
        elapsed: seconds since it began.
    """
    place = None if journal is None else journal.place
    if place is None or not place.total:
        return f"running for {lasting(elapsed)}"
    told = f"{place.done:,} of {place.total:,} {place.unit} ({place.done / place.total:.0%})"
    if place.loss is not None:
        told += f", loss {place.loss:.3f}"
    if place.done > place.first:
        pace = (time.perf_counter() - place.begun) / (place.done - place.first)
        told += f", about {lasting(pace * (place.total - place.done))} left"
    return told


def lasting(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
