"""What every stage computed for many texts, some thousand texts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import torch
from safetensors.torch import load_file, save_file

from adaptive.events import Listener, ignore
from adaptive.measure.recording import Record, pieces, record
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.types import Stage, Tokens


def recorded(
    tiers: Sequence[Tier], tokens: Tokens, batch_size: int, on_event: Listener = ignore
) -> Iterator[Record]:
    """Records of `ROWS` rows each, in their order, of which one at a time need be in memory."""
    for rows, told in pieces(tiers, tokens, on_event):
        yield record(tiers, token_rows.select(tokens, rows), batch_size, told)


class Kept(Sequence[Record]):
    """Records in files, for what has to go over all rows more than once."""

    def __init__(self, records: Iterator[Record], folder: Path, device: torch.device) -> None:
        """Writes each record before the next one is made.

        Args:
            device: where the tensors go when a record is read again.
        """
        self._files: list[Path] = []
        self._tokens: list[Tokens] = []
        self._stages: tuple[Stage, ...] = ()
        self._device = device
        for each in records:
            file = folder / f"recorded-{len(self._files):05d}.safetensors"
            self._files.append(file)
            self._tokens.append(each.tokens)
            self._stages = each.stages
            tensors = {f"logits.{k}": value for k, value in enumerate(each.logits)}
            tensors |= {f"pooled.{k}": value for k, value in enumerate(each.pooled)}
            if each.reference is not None:
                tensors["reference"] = each.reference
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, file)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        tensors = load_file(self._files[index], device=str(self._device))
        stages = range(len(self._stages))
        return Record(
            self._stages,
            [tensors[f"logits.{k}"] for k in stages],
            [tensors[f"pooled.{k}"] for k in stages],
            self._tokens[index],
            tensors.get("reference"),
        )

    def remove(self) -> None:
        """Remove the files."""
        for file in self._files:
            file.unlink()
