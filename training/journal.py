"""A build's curves and figures in TensorBoard and in Weights & Biases."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Protocol

from adaptive.events import Event, Finished, Scalar

logger = logging.getLogger(__name__)
STEP = "optimiser step"  # the x-axis of every curve in W&B


class Writer(Protocol):
    """Where points of curves go."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""

    def close(self) -> None:
        """Write everything out."""


class Journal:
    """A listener that writes one run of each tracker a build.

    TensorBoard keeps silent where it is not installed.

    A build that skips every step leaves no file.
    """

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

    def __call__(self, event: Event) -> None:
        """Write the points of curves, and the numbers among a step's figures."""
        if isinstance(event, Scalar):
            self._scalar(event.name, event.value, event.at)
        elif isinstance(event, Finished):
            for name, value in event.figures.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._scalar(f"{event.step}/{name}", float(value), 0)

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self._writers is None:
            self._writers = [] if self._make is None else [_TensorBoard(self._make, self._folder)]
            if self._wandb:
                self._writers.append(_Wandb(self._folder, self._name))
        for writer in self._writers:
            writer.scalar(name, value, step)

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

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "adaptive"),
            name=name,
            dir=str(folder),
            mode=mode,
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
