"""Rows that an engine is done with, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.transfer import put
from adaptive.engine.batching import Slots
from adaptive.engine.exits import LABEL, RELIABILITY, SCORE, Summary, on_host
from adaptive.engine.hops import HopOutput, HopSettings
from adaptive.engine.rows import SlotTable
from adaptive.types import Answers


@dataclass(frozen=True, slots=True)
class Finished:
    """Rows that one stage answered together. Values may still be on the device.

    Attributes:
        slots: [b] those that the rows had, now free.
    """

    slots: Slots
    stage: int
    entry: NDArray[np.int32]  # [b] tier
    summary: Summary  # [b, 3]
    probabilities: torch.Tensor | None  # [b, c]
    bare: bool  # reliabilities were not estimated

    def __len__(self) -> int:
        return len(self.slots)

    def answers(self) -> Answers:
        """On the host, in the order of the slots here; waits for the device."""
        return collect([self])[1]


_NO_VALUES = np.empty((0, 3), np.float32)
NONE = Finished(
    np.empty(0, np.int64), -1, np.empty(0, np.int32), lambda: _NO_VALUES, None, bare=True
)


def finish(
    slots: Slots,
    leaving: NDArray[np.int64],
    stage: int,
    entry: NDArray[np.int32],
    output: HopOutput,
    settings: HopSettings,
) -> Finished:
    """What leaves of a batch, at the places `leaving` [b'] of it; `entry` [b']."""
    summary = output.summary
    probabilities = output.exit.probabilities if settings.whole else None
    if len(leaving) < len(slots):
        slots, summary = slots[leaving], partial(np.take, on_host(summary), leaving, axis=0)
        if probabilities is not None:
            probabilities = probabilities.index_select(0, put(leaving, settings.device))
    return Finished(slots, stage, entry, summary, probabilities, settings.bare)


def kept(table: SlotTable, slots: Slots, stage: int) -> Finished:
    """Rows with what this stage, the last that they asked, said of them; nothing for stage -1."""
    if stage < 0:
        return NONE
    assert table.summary is not None
    summary, probabilities = table.summary[slots], table.probabilities
    if probabilities is not None:
        probabilities = probabilities.index_select(0, put(slots, probabilities.device))
    return Finished(slots, stage, table.entry[slots], lambda: summary, probabilities, bare=False)


def collect(parts: Sequence[Finished]) -> tuple[Slots, Answers]:
    """The slots of all rows [r], and their answers in this order, on the host.

    What the last stage left on the device comes back together.
    """
    late = [part for part in parts if isinstance(part.summary, torch.Tensor)]
    parts = [part for part in parts if not isinstance(part.summary, torch.Tensor)]
    summaries = [on_host(part.summary) for part in parts]
    waiting = [part.summary for part in late if isinstance(part.summary, torch.Tensor)]
    if waiting:
        summaries.append(on_host(torch.cat(waiting)))
        parts += late
    counts = [len(part) for part in parts]
    values = np.concatenate([_NO_VALUES, *summaries])
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    bare = all(part.bare for part in parts)
    answers = Answers(
        label=values[:, LABEL].astype(np.int32),
        score=values[:, SCORE],
        probabilities=torch.cat(probabilities).cpu().numpy() if probabilities else None,
        stage=np.repeat(np.array([part.stage for part in parts], np.int32), counts),
        entry=np.concatenate([NONE.entry, *(part.entry for part in parts)]),
        reliability=np.full(len(values), np.nan, np.float32) if bare else values[:, RELIABILITY],
    )
    return np.concatenate([NONE.slots, *(part.slots for part in parts)]), answers


def in_order(answers: Answers, order: NDArray[np.int64]) -> Answers:
    """The same answers, first the one at `order[0]`."""
    columns: dict[str, Any] = {
        each.name: None if (column := getattr(answers, each.name)) is None else column[order]
        for each in fields(answers)
    }
    return Answers(**columns)
