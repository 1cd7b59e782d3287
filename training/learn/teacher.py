"""What a trained tier computes for texts, in memory or in files, for students to learn from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from adaptive.cells import Labels
from adaptive.device import heap
from adaptive.events import Listener, Progress, ignore, within
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.answers import BATCH, device_of
from adaptive.training.learn.loop import Rows, autocast
from adaptive.types import Tokens

SHARD = 64 << 20  # bytes of pooled states in a file, and so in memory, at most
_WHOLE = "teacher.safetensors"  # the one file of all rows that was written before there were shards
_KINDS = {"F16": np.float16, "F32": np.float32}


class ByRow(Protocol):
    """Values of n rows of which some are read at a time: a tensor [n, ...], or `Shards`."""

    def __getitem__(self, rows: Rows, /) -> torch.Tensor:
        """Those of the given rows, [b, ...]."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Values of n rows that lie in files; reading some rows reads nothing else."""

    parts: tuple[NDArray[Any], ...]  # memory-mapped, [size, ...] each; the last may be shorter
    size: int  # rows of a part

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, rows: Rows, /) -> torch.Tensor:
        """Those of the given rows, [b, ...], in the given order."""
        found = np.empty((len(rows), *self.parts[0].shape[1:]), self.parts[0].dtype)
        part = rows // self.size
        for each in np.unique(part):
            here = part == each
            found[here] = self.parts[each][rows[here] - each * self.size]
        return torch.from_numpy(found)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Texts to learn from, and what a trained tier computed for them."""

    tokens: Tokens  # n rows, one a text
    labels: Labels  # [n, ...], as `adaptive.cells.known` tells where there is none
    logits: ByRow  # [n, c]
    pooled: Sequence[ByRow]  # layers + 1 times [n, h]: pooled hidden states at every depth


@torch.inference_mode()
def outputs_of(
    tier: Tier, tokens: Tokens, *, bfloat16: bool = False, on_event: Listener = ignore
) -> tuple[torch.Tensor, torch.Tensor]:
    """A tier's logits [n, c] and pooled hidden states [layers + 1, n, h], float16 on the host."""
    depth, place = tier.backbone.layers, device_of(tier)
    batches = token_rows.batches(tokens.lengths, BATCH)
    logits = torch.empty(len(tokens), len(tier.labels), dtype=torch.float16)
    pooled = torch.empty(depth + 1, len(tokens), tier.backbone.hidden, dtype=torch.float16)
    done = 0
    for rows in batches:
        with autocast(place, bfloat16):
            state = tier.embed(token_rows.pack(tokens, rows, place))
            pooled[0, rows] = _half(tier.backbone.pool(state))
            for layer in range(depth):
                state = tier.backbone.run(state, layer, layer + 1)
                pooled[layer + 1, rows] = _half(tier.backbone.pool(state))
            logits[rows] = _half(tier.answer(state, len(tier.depths) - 1)[0])
        done += len(rows)
        on_event(Progress("teacher", done, len(tokens), "rows"))
    return logits, pooled


def write_outputs(
    tier: Tier,
    tokens: Tokens,
    folder: Path,
    *,
    bfloat16: bool = False,
    on_event: Listener = ignore,
) -> None:
    """The same into files of `SHARD` bytes each, of which one at a time is in memory.

    Files that are there already are left as they are, so that an interrupted run goes on.
    """
    a_row = 2 * (tier.backbone.layers + 1) * tier.backbone.hidden
    size = max(BATCH, SHARD // a_row)
    for number in range(math.ceil(len(tokens) / size)):
        file = folder / f"outputs-{number:05d}.safetensors"
        rows = np.arange(number * size, min((number + 1) * size, len(tokens)))
        if not file.is_file():
            own = token_rows.select(tokens, rows)
            told = within(on_event, "teacher", int(rows[0]), len(tokens))
            logits, pooled = outputs_of(tier, own, bfloat16=bfloat16, on_event=told)
            save_file({"logits": logits, "pooled": pooled}, file.with_suffix(".tmp"))
            os.replace(file.with_suffix(".tmp"), file)
            del logits, pooled
            heap.trim()


def read_outputs(folder: Path) -> tuple[Shards, list[Shards]]:
    """What `write_outputs` wrote, where it lies: logits, and pooled states of each depth."""
    files = sorted(folder.glob("outputs-*.safetensors")) or [folder / _WHOLE]
    mapped = [map_tensors(file) for file in files]
    size = max(1, len(mapped[0]["logits"]))
    depths = range(len(mapped[0]["pooled"]))
    logits = Shards(tuple(each["logits"] for each in mapped), size)
    return logits, [Shards(tuple(e["pooled"][depth] for e in mapped), size) for depth in depths]


def map_tensors(file: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, memory-mapped; of float16 or float32."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    found: dict[str, NDArray[Any]] = {}
    for name, told in header.items():
        kind, shape, place = _KINDS[told["dtype"]], tuple(told["shape"]), told["data_offsets"][0]
        empty = not math.prod(shape)  # which cannot be mapped
        found[name] = (
            np.empty(shape, kind)
            if empty
            else np.memmap(file, kind, "r", offset=8 + length + place, shape=shape)
        )
    return found


def _half(values: torch.Tensor) -> torch.Tensor:
    """float16 on the host; what is out of its range, as in some decoders, becomes its end."""
    most = torch.finfo(torch.float16).max
    return values.float().clamp(-most, most).half().cpu()
