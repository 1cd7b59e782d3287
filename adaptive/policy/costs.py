"""What each piece of a cascade costs, in one unit.

Policies are searched and tested in whatever is told as `Costs`: by length of text, as here, or as
recorded (`adaptive.policy.prices`). A table holds costs at a few lengths and reads between them
linearly, so the same look-up serves measured milliseconds and counted work (which is linear in
length, hence exact).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive.types import OutcomeTable, StageCosts

Array = NDArray[np.float64]
WORK = "layers x tokens"
MILLISECONDS = "milliseconds"
DOLLARS = "dollars"
LAYER = "layer_multiply_adds"  # of the unit of counted work, a token; in `CostTable.measured`


class Costs(Protocol):
    """What texts cost, and the most that any can."""

    @property
    def unit(self) -> str:
        """Of all costs."""

    def of(self, table: OutcomeTable) -> StageCosts:
        """Of the table's texts."""

    def most(self, longest: int) -> StageCosts | None:
        """Of made-up texts, of which one is the dearest there can be; None where nothing tells.

        Args:
            longest: tokens of a text at most.
        """


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs per text at `lengths` tokens; m tiers, k stages, g lengths."""

    unit: str
    lengths: Array  # [g] ascending, at least two
    embed: Array  # [m, g]
    segment: Array  # [k, g]
    head: Array  # [k, g]
    router: Array  # [g]
    measured: dict[str, Any] = field(default_factory=dict)  # device, dtype, batch size, versions
    decision: Array = field(default_factory=lambda: np.zeros(0))  # [g], or none; see `StageCosts`

    def __post_init__(self) -> None:
        for name in ("lengths", "embed", "segment", "head", "router", "decision"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))

    def of(self, table: OutcomeTable) -> StageCosts:
        """Costs of a table's texts, by their length."""
        return self.at(table.tokens)

    def most(self, longest: int) -> StageCosts:
        """Costs of every length up to the longest."""
        return self.at(np.arange(longest + 1))

    def at(self, tokens: NDArray[np.int64]) -> StageCosts:
        """Costs of texts with the given token counts [n]; linear beyond the ends too."""
        return StageCosts(
            unit=self.unit,
            embed=self._read(self.embed, tokens),
            segment=self._read(self.segment, tokens),
            head=self._read(self.head, tokens),
            router=self._read(self.router[None], tokens)[:, 0],
            decision=self._read(self.decision[None], tokens)[:, 0] if self.decision.any() else None,
        )

    def _read(self, costs: Array, tokens: NDArray[np.int64]) -> Array:
        """[rows, g] at [n] lengths -> [n, rows]."""
        left = np.clip(np.searchsorted(self.lengths, tokens) - 1, 0, len(self.lengths) - 2)
        step = (tokens - self.lengths[left]) / (self.lengths[left + 1] - self.lengths[left])
        read: Array = costs[:, left] + step * (costs[:, left + 1] - costs[:, left])
        return np.maximum(read, 0.0).T

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CostTable:
        """The table `to_json` wrote.

        Raises:
            KeyError: a field is missing.
        """
        names = ("unit", "lengths", "embed", "segment", "head", "router", "measured")
        # tables of earlier versions know no decisions
        return cls(**{name: values[name] for name in names}, decision=values.get("decision", []))


def work_table(
    embed: list[float], segment: list[float], head: list[float], router: float, layer: float
) -> CostTable:
    """Counted work, in layers of the full tier x tokens.

    Args:
        embed: multiply-adds per token of entering each tier, [m].
        segment: multiply-adds per token of each stage's layers, [k]. A pruned tier's layer
            thus counts by its real size.
        head: multiply-adds per text of each stage's head, [k].
        router: multiply-adds per text.
        layer: multiply-adds per token of one layer of the full tier; the unit.
    """
    per_token = np.array([0.0, 1.0]) / layer
    per_text = np.array([1.0, 1.0]) / layer
    return CostTable(
        unit=WORK,
        lengths=np.array([0.0, 1.0]),
        embed=np.outer(embed, per_token),
        segment=np.outer(segment, per_token),
        head=np.outer(head, per_text),
        router=router * per_text,
        measured={LAYER: layer},
    )
