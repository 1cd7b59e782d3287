"""The log of a build's losses and figures: TensorBoard where it is installed, else nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Journal:
    """One TensorBoard run a build. Without the `tracking` extra it keeps silent.

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
