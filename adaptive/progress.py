"""Events as bars on a terminal or in a notebook, and as lines in a log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from adaptive.events import Event, Finished, Listener, Progress, Skipped, Started, Warned

EVERY = 30.0  # seconds between two lines of progress
logger = logging.getLogger(__name__)


@contextmanager
def listening(
    *, quiet: bool, on_event: Listener | None = None, more: tuple[Listener, ...] = ()
) -> Iterator[Listener]:
    """A listener that passes events on: to the log, to bars, and to a user's function.

    Args:
        quiet: no bars; the log then tells every `EVERY` seconds how far a step is.
        on_event: is told last.
        more: further listeners.
    """
    log, bars = Log(lines=quiet), Bars()
    heard: list[Listener] = [log, *more]
    if not quiet:
        heard.append(bars)
    if on_event is not None:
        heard.append(on_event)

    def tell(event: Event) -> None:
        for each in heard:
            each(event)

    try:
        yield tell
    finally:
        log.close()
        bars.close()


class Bars:
    """One bar at a time, of the part that runs."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._part: tuple[str, int] | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.close()
        if not isinstance(event, Progress):
            return
        if (event.part, event.total) != self._part:
            self.close()
            self._bar = tqdm(total=event.total, initial=event.done, desc=event.part, leave=False)
            self._part = event.part, event.total
        if event.loss is not None:
            self._bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
        self._bar.update(event.done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._part = None


class Log:
    """A line when a step begins, ends or is skipped, and for each warning.

    Args:
        lines: whether to tell every `EVERY` seconds, too, how far the running step is.
    """

    def __init__(self, *, lines: bool) -> None:
        self._lines = lines
        self._step = ""
        self._begun = 0.0
        self._place: Place | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self.close()
                self._step, self._begun, self._place = label(event), time.perf_counter(), None
                logger.info("%s: started", self._step)
                if self._lines:
                    self._begin()
            case Progress():
                self._place = Place.of(event, self._place)
            case Skipped():
                logger.info("%s: unchanged, skipped", label(event))
            case Warned():
                logger.warning("warning: %s", event.text)
            case Finished():
                self.close()
                logger.info("%s: done in %s", label(event), lasting(event.seconds))

    def _begin(self) -> None:
        stop = self._stop = threading.Event()

        def tell() -> None:
            while not stop.wait(EVERY):
                elapsed = time.perf_counter() - self._begun
                logger.info("%s: %s", self._step, how_far(self._place, elapsed))

        self._thread = threading.Thread(target=tell, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell no more of the running step."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None


@dataclass(frozen=True, slots=True)
class Place:
    """How far a part is, and since when."""

    event: Progress
    first: int  # done when this run began
    begun: float  # by `time.perf_counter`
    loss: float | None

    @classmethod
    def of(cls, event: Progress, before: Place | None) -> Place:
        """The place after an event.

        A part that an interrupted run began counts from where it goes on; a loss is told now and
        then, and holds until the next.
        """
        if before is None or before.of_another(event):
            return cls(event, event.done, time.perf_counter(), event.loss)
        loss = before.loss if event.loss is None else event.loss
        return cls(event, before.first, before.begun, loss)

    def of_another(self, event: Progress) -> bool:
        """Whether an event is of another part than this."""
        return (self.event.part, self.event.total) != (event.part, event.total)


def label(event: Started | Skipped | Finished) -> str:
    """How a line calls a step."""
    return f"step {event.number} of {event.steps}, {event.step}"


def how_far(place: Place | None, elapsed: float) -> str:
    """How far the running step is, in a line.

    Args:
        elapsed: seconds since it began.
    """
    if place is None or not place.event.total:
        return f"running for {lasting(elapsed)}"
    done, total = place.event.done, place.event.total
    told = f"{done:,} of {total:,} {place.event.unit} ({done / total:.0%})"
    if place.loss is not None:
        told += f", loss {place.loss:.3f}"
    if done > place.first:
        pace = (time.perf_counter() - place.begun) / (done - place.first)
        told += f", about {lasting(pace * (total - done))} left"
    return told


def lasting(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
