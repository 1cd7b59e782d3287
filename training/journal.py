"""A build's curves and figures in TensorBoard, where that is installed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from adaptive.events import Event, Finished, Scalar

logger = logging.getLogger(__name__)


class Journal:
    """A listener that writes one TensorBoard run a build; silent without the `tracking` extra.

    A build that skips every step leaves no file.
    """

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

    def __call__(self, event: Event) -> None:
        """Write the points of curves, and the numbers among a step's figures."""
        if isinstance(event, Scalar):
            self._scalar(event.name, event.value, event.at)
        elif isinstance(event, Finished):
            for name, value in event.figures.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._scalar(f"{event.step}/{name}", float(value), 0)

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self._writer is None and self._make is not None:
            self._writer = self._make(str(self._folder))
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write everything out."""
        if self._writer is not None:
            self._writer.close()
