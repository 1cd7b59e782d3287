"""How far a build is, and its losses and figures, in TensorBoard and in Weights & Biases."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)
STEP = "optimiser step"  # the x-axis of every curve in W&B


@dataclass(frozen=True, slots=True)
class Place:
    """How far a step is."""

    done: int
    total: int
    unit: str  # what is counted
    first: int  # done when this run began: an interrupted one goes on
    begun: float  # by `time.perf_counter`
    loss: float | None


class Writer(Protocol):
    """Where points of curves go."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""

    def close(self) -> None:
        """Write everything out."""


class Journal:
    """One run of each tracker a build. TensorBoard keeps silent where it is not installed.

    A build that skips every step leaves no file.

    Attributes:
        place: how far the running step is, where it tells.
    """

    place: Place | None = None

    def __init__(self, folder: Path, name: str = "", *, wandb: bool = False) -> None:
        """Nothing is opened before there is something to write.

        Args:
            name: of a run in W&B.
            wandb: write there, too.
        """
        self._folder, self._name, self._wandb = folder, name, wandb
        self._writers: list[Writer] | None = None
        self._make: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("tensorboard is not installed: losses are not logged there")
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
        if self._writers is None:
            self._writers = [] if self._make is None else [_TensorBoard(self._make, self._folder)]
            if self._wandb:
                self._writers.append(_Wandb(self._folder, self._name))
        for writer in self._writers:
            writer.scalar(name, value, step)

    def figures(self, step: str, figures: Mapping[str, Any]) -> None:
        """The numbers among a step's figures."""
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.scalar(f"{step}/{name}", float(value), 0)

    def close(self) -> None:
        """Write everything out."""
        for writer in self._writers or ():
            writer.close()


class _TensorBoard:
    def __init__(self, make: Any, folder: Path) -> None:
        self._writer = make(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run in a folder; `wandb sync` sends it. Where WANDB_MODE says so, wandb sends it itself.

    What wandb would note of machine, user and code stays out of it, but for versions of packages.
    """

    def __init__(self, folder: Path, name: str) -> None:
        # wandb reports its own crashes unless told otherwise
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "adaptive"),
            name=name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        self._run.define_metric("*", step_metric=STEP)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value, STEP: step})

    def close(self) -> None:
        self._run.finish()
