"""What long work tells as it goes: one stream of events for all listeners.

Work that takes long is given a listener, a function of one event, and calls it. Listeners put the
events on a terminal or into a notebook as bars, into a log as lines (`adaptive.progress`), into
TensorBoard (`adaptive.training.journal`), or are a user's own `on_event`. An error that a listener
raises ends the work, so a callback can stop a build, which goes on where it stopped when it is
called again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """A step begins."""

    step: str
    number: int  # from 1
    steps: int  # in all


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step is done already, and nothing that it reads has changed."""

    step: str
    number: int
    steps: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a part of the running step is."""

    part: str
    done: int
    total: int
    unit: str  # what is counted
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A point of a curve, such as a training's loss."""

    name: str
    value: float
    at: int  # optimiser steps


@dataclass(frozen=True, slots=True)
class Warned:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A step ends."""

    step: str
    number: int
    steps: int
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)  # what it found


Event: TypeAlias = Started | Skipped | Progress | Scalar | Warned | Finished
Listener: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of work that tells nothing."""


@contextmanager
def doing(on_event: Listener, step: str, number: int, steps: int) -> Iterator[dict[str, Any]]:
    """Tells that a step begins and, unless it fails, that it ends.

    Yields:
        An empty mapping for what the step finds.
    """
    on_event(Started(step, number, steps))
    begun, figures = time.perf_counter(), dict[str, Any]()
    yield figures
    on_event(Finished(step, number, steps, time.perf_counter() - begun, figures))


def counted(on_event: Listener, part: str, items: Sequence[Any], unit: str) -> Iterator[Any]:
    """The items, telling after each how many are done."""
    on_event(Progress(part, 0, len(items), unit))
    for number, item in enumerate(items, 1):
        yield item
        on_event(Progress(part, number, len(items), unit))


def within(on_event: Listener, part: str, before: int, total: int) -> Listener:
    """For a piece of a larger part: its progress counts on top of what was done before it."""

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, part=part, done=before + event.done, total=total)
        on_event(event)

    return tell
