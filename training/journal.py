"""How far a build is, and its losses and figures, in TensorBoard where that is installed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a step is."""

    done: int
    total: int
    unit: str  # what is counted
    first: int  # done when this run began: an interrupted one goes on
    begun: float  # by `time.perf_counter`
    loss: float | None


class Journal:
    """One TensorBoard run a build. Without the `tracking` extra it keeps silent.

    A build that skips every step leaves no file.

    Attributes:
        place: how far the running step is, where it tells.
    """

    place: Place | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._make: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("tensorboard is not installed: losses are not logged")
        else:
            self._make = SummaryWriter

    def at(self, done: int, total: int, unit: str, loss: float | None = None) -> None:
        """Note how far the running step is."""
        before = self.place
        if before is None or (before.total, before.unit) != (total, unit):
            self.place = Place(done, total, unit, done, time.perf_counter(), loss)
        else:
            self.place = replace(before, done=done, loss=before.loss if loss is None else loss)

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        if self._writer is None and self._make is not None:
            self._writer = self._make(str(self._folder))
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def figures(self, step: str, figures: Mapping[str, Any]) -> None:
        """The numbers among a step's figures."""
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.scalar(f"{step}/{name}", float(value), 0)

    def close(self) -> None:
        """Write everything out."""
        if self._writer is not None:
            self._writer.close()
