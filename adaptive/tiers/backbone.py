"""A loaded transformers classifier, run as embeddings, some layers, pooling, head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from adaptive.tiers import attention, fused
from adaptive.tiers.calls import prepare_encoder
from adaptive.tiers.families import Family, family_of, positions_of
from adaptive.tiers.int8 import Int8Linear
from adaptive.tiers.prefixes import tokens_of
from adaptive.tiers.state import Packed, Padded, Parted, Run, State, Step
from adaptive.types import TokenBatch

if TYPE_CHECKING:
    from adaptive.tiers.graphs import Graphs


class Backbone(nn.Module):
    """The adapter around one `AutoModelForSequenceClassification`, own head kept.

    The model's config is set to attention that takes packed rows as well as what the model's
    own forward gives it, where the family knows any but its own. Running changes neither model
    nor config, so one instance may serve many threads.

    Attributes:
        kind: what a tier's card calls it.
        model: the transformers model.
        family: its entry in the table.
        fresh_head: the model's own head is untrained.
        guessed_order: nothing but their order told which of the head's classes is which label.
        added_rows: rows of the embedding table that its checkpoint lacked for added tokens.
        graphs: what runs the layers in place of torch; None where torch does.
    """

    kind = "transformer"
    has_head = True  # of its own
    tables: tuple[nn.Parameter, ...] = ()  # large ones of which a batch reads few rows
    sparse = False
    graphs: Graphs | None = None
    guessed_order = False
    added_rows = 0

    def __init__(self, model: Any, *, fresh_head: bool = False) -> None:
        """Raises FamilyError where the model's family has no adapter."""
        super().__init__()
        self.family: Family = family_of(model.config)
        self.model = model
        if self.family.packed:
            model.config._attn_implementation = attention.NAME
        self.fresh_head = fresh_head

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self.model.config

    @property
    def stored(self) -> nn.Module:
        """What a tier's folder keeps the tensors of."""
        model: nn.Module = self.model
        return model

    @property
    def local(self) -> bool:
        """Whether layers take nothing but the states of their rows: no rotary or relative
        positions, no causal mask.
        """
        return self.family.prepare is prepare_encoder

    @property
    def body(self) -> Any:
        """The model without its head."""
        return self.model.base_model

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers."""
        blocks = self.body.get_submodule(self.family.layers)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.blocks)

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def prefix(self) -> int:
        """Tokens of the prefix that its layers have; 0 for none."""
        return tokens_of(self.blocks, self.family.pruning.attention)

    @property
    def max_length(self) -> int:
        """Most tokens of a text that the positions allow."""
        return positions_of(self.config)

    @property
    def embedding_table(self) -> torch.Tensor:
        """Weights of the token table [V, h]; ELECTRA's may be narrower than `hidden`."""
        weight: torch.Tensor = self.body.get_input_embeddings().weight
        return weight

    def embed(self, batch: TokenBatch, layout: Packed | None = None) -> State:
        """Hidden states before the first layer.

        Args:
            layout: how the rows lie, where that is not what the batch's lengths say.
        """
        kind = Packed if self.family.packed else Padded
        where = layout or kind(batch.lengths, batch.ids.device)
        hidden = fused.fused_embed(self, batch, where)
        if hidden is None:
            hidden = self.family.embed(self.body, batch, where)
        if not self.family.causal:
            return State(hidden, where)
        assert isinstance(where, Packed)
        return State(hidden, where, self._last(batch, where))

    def parted(self, batch: TokenBatch, blank: TokenBatch) -> Parted:
        """One row as what its tokens bring: the states before the first layer."""
        state = self.embed(batch)

        def joined(hidden: torch.Tensor) -> State:
            now = state.select(np.zeros(len(hidden), dtype=np.int64))
            return replace(now, hidden=hidden.to(now.hidden.dtype).reshape(now.hidden.shape))

        return Parted(state.hidden.float(), self.embed(blank).hidden.float(), joined)

    def run(self, state: State, start: int, stop: int) -> State:
        """Layers `start` to `stop`, the latter excluded."""
        if start == stop:
            return state
        run = state.run or self._run(state)
        return State(run(start, stop, state.hidden), state.layout, state.last, run)

    def pool(self, state: State) -> torch.Tensor:
        """One vector a text, [b, h]: the mean over tokens, or a decoder's last token."""
        if state.last is not None:
            return state.layout.at(state.hidden, state.last)
        return state.layout.mean(state.hidden)

    def classify(self, state: State) -> torch.Tensor:
        """Logits [b, c] of the model's own head, for states behind its last layer."""
        return self.family.classify(self.model, self.body, state)

    def layer_work(self, layer: int) -> int:
        """Multiply-adds per token in the matrices of a layer."""
        return linear_work(self.blocks[layer])

    def embed_work(self) -> int:
        """Multiply-adds per token before the first layer: none but ELECTRA's projection."""
        project = getattr(self.body, "embeddings_project", None)
        return 0 if project is None else linear_work(project)

    def head_work(self) -> int:
        """Multiply-adds per text in the model's own head."""
        return sum(linear_work(self.model.get_submodule(path)) for path in self.family.head)

    def _run(self, state: State) -> Run:
        """What runs layers on rows that lie like these."""
        if self.graphs is not None:
            return self.graphs.prepare(state.layout)
        step, blocks = self._step(state), self.blocks

        def run(start: int, stop: int, hidden: torch.Tensor) -> torch.Tensor:
            for i in range(start, stop):
                hidden = step(i, blocks[i], hidden)
            return hidden

        return run

    def _step(self, state: State) -> Step:
        """What runs one layer in torch."""
        if fused.has_fused(self, state.hidden):
            return fused.fused_step(self, state.hidden, state.layout)
        return self.family.prepare(self.body, state.hidden, state.layout)

    def _last(self, batch: TokenBatch, layout: Packed) -> torch.Tensor:
        """The last token that is not padding, by id, as transformers' classifiers find it."""
        pad = self.config.pad_token_id
        places = layout.positions if pad is None else layout.positions * (batch.ids != pad)
        last = torch.zeros_like(layout.starts)
        return last.scatter_reduce_(0, layout.owner, places, "amax")


def linear_work(module: nn.Module) -> int:
    """Multiply-adds of one row through every linear layer of a module, in int8 or not."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear | Int8Linear)]
    return sum(part.in_features * part.out_features for part in linear)
