"""One model of a cascade: a backbone and a head at each exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.device.captures import Captures
from adaptive.exits.heads import ExitHead
from adaptive.tiers import attention
from adaptive.tiers.backbone import Backbone, linear_work
from adaptive.tiers.bag import Bag
from adaptive.tiers.captured import can_capture, most_tokens, run_layers
from adaptive.tiers.int8 import Int8Linear
from adaptive.tiers.state import Packed, State
from adaptive.types import TokenBatch


class Tier(nn.Module):
    """A backbone cut into segments by its exits.

    Attributes:
        name: as users see it.
        backbone: runs layers.
        depths: layers before each exit, ascending; the last exit is behind the last layer.
        labels: names of the classes, in the order of the logits.
        own_head: the last exit answers with the model's own head.
        heads: one a depth, but for the last where `own_head`.
        head_width: hidden units of the heads, None for linear ones.
        last_linear: the last head has no hidden layer, whatever the others have.
        captures: its CUDA graphs, if it runs on a GPU.
        most_tokens: as many are run by graphs at most.
        int8: the layers multiply in int8.
        source: where the weights lie, of a tier whose layers do not run on them as they are: in
            int8, in ONNX Runtime, or in another dtype; None of any other.
    """

    int8 = False
    source: Path | None = None

    def __init__(
        self,
        name: str,
        backbone: Backbone | Bag,
        depths: Sequence[int],
        labels: Sequence[str],
        *,
        own_head: bool = False,
        head_width: int | None = None,
        last_linear: bool = False,
    ) -> None:
        """Makes untrained heads of the backbone's dtype and device.

        Raises:
            ValueError: depths do not ascend from 0 or more to the last layer, or a bag is
                asked for its own head.
        """
        super().__init__()
        depths = tuple(depths)
        if not depths or depths[-1] != backbone.layers or depths[0] < 0:
            raise ValueError(
                f"exits of tier {name!r} at depths {depths}: the last must be at "
                f"{backbone.layers}, behind the last layer"
            )
        if list(depths) != sorted(set(depths)):
            raise ValueError(f"exits of tier {name!r} at depths {depths}: not ascending")
        if own_head and not backbone.has_head:
            raise ValueError(f"tier {name!r} is a {backbone.kind}, which has no head of its own")
        self.name = name
        self.backbone = backbone
        self.depths = depths
        self.labels = tuple(labels)
        self.own_head = own_head
        self.head_width = head_width
        self.last_linear = last_linear
        self.captures = Captures()
        self._head_arrays: dict[int, Mapping[str, NDArray[np.float32]]] = {}  # once asked for
        self._fused: bool | None = None  # whether attention takes packed rows; asked once
        self.most_tokens = most_tokens(backbone)
        table = backbone.embedding_table
        widths = [head_width] * (len(depths) - 1)
        if not own_head:
            widths.append(None if last_linear else head_width)
        self.heads = nn.ModuleList(
            ExitHead(backbone.hidden, len(self.labels), width) for width in widths
        ).to(table.device, table.dtype)

    @property
    def in_graphs(self) -> bool:
        """Whether ONNX Runtime runs the layers."""
        return self.backbone.graphs is not None

    @property
    def in_float32(self) -> bool:
        """Whether torch runs it in float32, as nothing but the weights has it."""
        exact = self.backbone.embedding_table.dtype.itemsize >= torch.float32.itemsize
        return exact and not self.int8 and not self.in_graphs

    def embed(self, batch: TokenBatch, layout: Packed | None = None) -> State:
        """The state before the first layer; see `Backbone.embed`."""
        return self.backbone.embed(batch, layout)

    def advance(self, state: State, exit: int, *, past: bool = False) -> State:
        """From the previous exit's depth to this one's; past all exits before it, if so wanted."""
        start, stop, backbone = self._start(0 if past else exit), self.depths[exit], self.backbone
        few = state.hidden.shape[1] <= self.most_tokens
        if start < stop and few and can_capture(state.hidden):
            return run_layers(self.captures, backbone, state, start, stop)
        return self.advance_uncaptured(state, exit, past=past)

    def captured(self, tokens: int) -> bool:
        """Whether layers on so many tokens may be captured, on a GPU."""
        if tokens > self.most_tokens:
            return False
        if self._fused is None:
            self._fused = attention.fused(self.backbone.embedding_table)
        return self._fused

    def advance_uncaptured(self, state: State, exit: int, *, past: bool = False) -> State:
        """The same kernel by kernel, as part of a larger capture for one."""
        return self.backbone.run(state, self._start(0 if past else exit), self.depths[exit])

    def head_arrays(self, exit: int) -> Mapping[str, NDArray[np.float32]] | None:
        """An exit head's weights, as `ExitHead.arrays` gives them; None of the model's own head."""
        if exit == len(self.heads):
            return None
        if exit not in self._head_arrays:
            head = self.heads[exit]
            assert isinstance(head, ExitHead)
            self._head_arrays[exit] = head.arrays()
        return self._head_arrays[exit]

    def answer(self, state: State, exit: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [b, c] and pooled hidden states [b, h] at an exit."""
        pooled = self.backbone.pool(state)
        if exit == len(self.heads):
            return self.backbone.classify(state), pooled
        return self.heads[exit](pooled), pooled

    def embed_work(self) -> int:
        """Multiply-adds per token before the first layer."""
        return self.backbone.embed_work()

    def segment_work(self, exit: int) -> int:
        """Multiply-adds per token from the previous exit's depth to this one's."""
        span = range(self._start(exit), self.depths[exit])
        return sum(self.backbone.layer_work(layer) for layer in span)

    def head_work(self, exit: int) -> int:
        """Multiply-adds per text in an exit's head."""
        if exit == len(self.heads):
            return self.backbone.head_work()
        return linear_work(self.heads[exit])

    def parameter_count(self) -> int:
        """Numbers in all weights, those in int8 among them."""
        packed = [part for part in self.modules() if isinstance(part, Int8Linear)]
        floats = sum(each.numel() for each in self.parameters())
        return floats + sum(part.in_features * part.out_features for part in packed)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Tier:
        """Moved or cast, the weights lie elsewhere than graphs would look for them."""
        self.captures, self._fused, self._head_arrays = Captures(), None, {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _start(self, exit: int) -> int:
        return self.depths[exit - 1] if exit else 0
