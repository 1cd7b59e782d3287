"""Costs that no table of lengths tells: by a price list, or as they were recorded.

Both read an outcome table's `usage`. What bounds a cost has to be known before the rows are, so it
is given here and never taken from them: the most tokens an answer may have is a setting of the
call, and part of what is certified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import DataError
from adaptive.policy.costs import DOLLARS, MILLISECONDS
from adaptive.types import OutcomeTable, StageCosts, Usage

Floats = NDArray[np.float64]
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """What a stage charges. All zero: it is free, as an embedding that runs on the spot."""

    input: float = 0.0  # dollars per million tokens of the prompt
    output: float = 0.0  # dollars per million tokens of the answer
    cached: float | None = None  # per million tokens of the prompt read from a cache; None: input
    call: float = 0.0  # dollars
    max_input: int | None = None  # tokens of a prompt; None: the longest text that is taken
    max_tokens: int | None = None  # tokens of an answer; None: it may be of any length

    @property
    def read(self) -> float:
        """Dollars per million tokens of the prompt that come from a cache."""
        return self.input if self.cached is None else self.cached


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars by tokens: a price list over recorded counts."""

    stages: tuple[Price, ...]  # [k]
    tiers: int  # m
    unit: str = DOLLARS

    def of(self, table: OutcomeTable) -> StageCosts:
        """What each stage cost each of the table's texts.

        Raises:
            DataError: counts that a price needs are missing, or a count is above its cap.
        """
        usage = table.usage or Usage()
        shape = (len(table), len(self.stages))
        given, written = (self._counts(usage, name, shape) for name in ("tokens_in", "tokens_out"))
        cached = np.zeros(shape) if usage.tokens_cached is None else usage.tokens_cached
        for k, price in enumerate(self.stages):
            _capped(given[:, k], price.max_input, "tokens of a prompt", "max_input", k)
            _capped(written[:, k], price.max_tokens, "tokens of an answer", "max_tokens", k)
        return _stage_costs(self.unit, self._dollars(given, cached, written), self.tiers)

    def most(self, longest: int) -> StageCosts | None:
        """The dearest call of each stage; None where a stage may write without end."""
        if any(price.output and price.max_tokens is None for price in self.stages):
            return None
        given = np.array([[longest if p.max_input is None else p.max_input for p in self.stages]])
        written = np.array([[p.max_tokens or 0 for p in self.stages]])
        dear = given * np.array([p.read > p.input for p in self.stages])  # all or none cached
        return _stage_costs(self.unit, self._dollars(given, dear, written), self.tiers)

    def _dollars(
        self, given: NDArray[np.number], cached: NDArray[np.number], written: NDArray[np.number]
    ) -> Floats:
        fresh, read, output, call = np.array(
            [(p.input, p.read, p.output, p.call * MILLION) for p in self.stages]
        ).T
        spent: Floats = (given - cached) * fresh + cached * read + written * output + call
        return spent / MILLION

    def _counts(
        self, usage: Usage, name: Literal["tokens_in", "tokens_out"], shape: tuple[int, int]
    ) -> NDArray[np.number]:
        found: NDArray[np.number] | None = getattr(usage, name)
        if found is None:
            needed = [p.input or p.read if name == "tokens_in" else p.output for p in self.stages]
            if any(needed):
                raise DataError(f"prices by tokens need the table's `usage.{name}`, found none")
            return np.zeros(shape)
        _shaped(found, shape, name)
        return found


@dataclass(frozen=True, slots=True)
class Recorded:
    """Milliseconds or dollars as they were recorded, each text's and stage's own."""

    unit: str  # MILLISECONDS or DOLLARS
    tiers: int  # m
    cap: tuple[float, ...] | None = None  # [k] the most that a stage can cost; None: not known

    def of(self, table: OutcomeTable) -> StageCosts:
        """What each stage cost each of the table's texts.

        Raises:
            DataError: none were recorded in this unit, or one is above its cap.
        """
        names = {MILLISECONDS: "milliseconds", DOLLARS: "dollars"}
        if self.unit not in names:
            raise DataError(f"costs are recorded in {' or '.join(names)}, not in {self.unit}")
        name = names[self.unit]
        found = None if table.usage is None else getattr(table.usage, name)
        if found is None:
            raise DataError(f"recorded costs need the table's `usage.{name}`, found none")
        _shaped(found, (len(table), len(table.stages)), name)
        for k, cap in enumerate(self.cap or ()):
            _capped(found[:, k], cap, self.unit, "cap", k)
        return _stage_costs(self.unit, found, self.tiers)

    def most(self, longest: int) -> StageCosts | None:
        """The caps, whatever a text's length."""
        if self.cap is None:
            return None
        return _stage_costs(self.unit, np.array([self.cap]), self.tiers)


def _stage_costs(unit: str, costs: Floats, tiers: int) -> StageCosts:
    """Costs [n, k] of stages that each are a call of their own."""
    rows = len(costs)
    nothing = np.zeros((rows, tiers)), np.zeros_like(costs), np.zeros(rows)
    embed, head, router = nothing
    return StageCosts(unit, embed, costs.astype(np.float64), head, router)


def _shaped(found: NDArray[np.number], shape: tuple[int, int], name: str) -> None:
    if found.shape != shape or not (found >= 0).all():
        raise DataError(
            f"`usage.{name}` must be {list(shape)} (texts x stages) and nowhere below 0, "
            f"found {list(found.shape)}"
        )


def _capped(
    found: NDArray[np.number], cap: float | None, what: str, field: str, stage: int
) -> None:
    if cap is not None and (found > cap).any():
        row = int(found.argmax())
        raise DataError(
            f"text {row} took {found[row]:g} {what} at stage {stage}, more than its `{field}` of "
            f"{cap:g}; record it under that setting, or name a greater one"
        )
