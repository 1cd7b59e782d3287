"""What is in flight, and what is refused because of it.

Everything is counted in the event loop's thread. Nothing waits in line to be refused later: who
comes too much is told at once, and when to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Limits


class Load:
    """Requests in flight, and the milliseconds that their rows are expected to take."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self.queued_ms = 0.0
        self._changed = asyncio.Event()

    @contextmanager
    def request(self) -> Iterator[None]:
        """One more in flight.

        Raises:
            Refusal: there are as many as may be.
        """
        if self.requests >= self.limits.requests:
            raise Refusal(429, "too many requests are in flight", self._wait())
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def rows(self, cost: float, *, in_turn: bool = False) -> AsyncIterator[None]:
        """Rows that are expected to take so many milliseconds.

        A request whose rows alone are more than what may queue is taken where nothing else is
        queued, so that none is refused for ever; the limit on items bounds it.

        Args:
            in_turn: wait until there is room, as pieces of a stream do.

        Raises:
            Refusal: the rows before them take too long already.
        """
        while self.full(cost):
            if not in_turn:
                raise Refusal(429, "too much work is queued", self._wait())
            self._changed.clear()
            await self._changed.wait()
        self.queued_ms += cost
        try:
            yield
        finally:
            self.queued_ms -= cost
            if self.queued_ms < 1e-6:  # sums of floats leave crumbs, which must not look like work
                self.queued_ms = 0.0
            self._changed.set()

    def full(self, cost: float) -> bool:
        """Whether rows of this cost are too much now."""
        return self.queued_ms > 0.0 and self.queued_ms + cost > self.limits.queued_ms

    def _wait(self) -> float:
        """Seconds until about half of what is queued is done."""
        return self.queued_ms / 2000.0
