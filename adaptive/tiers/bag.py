"""The cheapest tier: a weighted mean of token embeddings, no layers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.device.captures import by_kernel
from adaptive.device.transfer import put
from adaptive.errors import FamilyError
from adaptive.text.tokens import ranges
from adaptive.tiers.projection import project
from adaptive.tiers.state import Packed, Parted, State
from adaptive.types import TokenBatch

Ids = TypeVar("Ids", torch.Tensor, NDArray[np.int64])


class Bag(nn.Module):
    """A bag of embeddings with the interface of a backbone of no layers.

    A text becomes the mean of its tokens' vectors, each token weighing exp(its learned
    score), plus the plain mean of the vectors of its neighbouring token pairs, hashed into
    `buckets` rows (fastText, Joulin et al. 2017). A text of no tokens becomes zeros.
    """

    kind = "bag"  # what a tier's card calls it
    layers = 0
    has_head = False  # of its own
    local = True  # its rows see themselves alone
    prefix = 0  # tokens, in each layer
    graphs = None  # ONNX Runtime has no layers to run
    config = None  # of transformers

    def __init__(self, vocabulary: int, hidden: int, buckets: int = 0) -> None:
        super().__init__()
        self.hidden = hidden
        self.buckets = buckets
        self.table = nn.Embedding(vocabulary, hidden)
        self.score = nn.Parameter(torch.zeros(vocabulary))
        # pairs start silent: the bag begins as the mean of its tokens
        self.pairs = nn.Parameter(torch.zeros(buckets, hidden)) if buckets else None
        self.sparse = False  # whether gradients of the tables hold only the rows that were read

    @property
    def tables(self) -> list[nn.Parameter]:
        """The large parameters, of which a batch reads few rows."""
        both = (self.table.weight, self.pairs)
        return [each for each in both if isinstance(each, nn.Parameter)]

    @classmethod
    def from_table(cls, table: torch.Tensor, hidden: int, buckets: int = 0) -> Bag:
        """A bag that starts from another model's table [V, h], projected to `hidden`.

        Raises:
            ValueError: `hidden` is more than the table's width.
        """
        bag = cls(len(table), hidden, buckets).to(table.device, table.dtype)
        with torch.no_grad():
            bag.table.weight.copy_(project(table, hidden))
        return bag

    def halve_pairs(self) -> None:
        """Keep the pairs in float16 from now on, in half of the memory. They learn no further."""
        if self.pairs is not None:
            self.pairs = nn.Parameter(self.pairs.detach().half(), requires_grad=False)

    @property
    def embedding_table(self) -> torch.Tensor:
        """Weights of the token table [V, h]."""
        return self.table.weight

    @property
    def stored(self) -> nn.Module:
        """What a tier's folder keeps the tensors of."""
        return self

    def embed(self, batch: TokenBatch, layout: Packed | None = None) -> State:
        """The pooled texts as rows of one token: hidden [1, b, h].

        Args:
            layout: how the rows lie, where that is not what the batch's lengths say.
        """
        told = layout is not None
        layout = layout or Packed(batch.lengths, batch.ids.device)
        if by_kernel(batch.ids) and batch.seen is None:
            from adaptive.tiers.kernels import bag_means

            pooled = bag_means(batch.ids, layout.ends, self.table.weight, self.score, self.pairs)
            return _one_token_each(pooled)
        plain = batch.seen is None and batch.ids.device.type == "cpu" and not told
        rows = len(batch.lengths)
        # where there are gradients they may have to be sparse
        if plain and rows and batch.lengths.all() and not torch.is_grad_enabled():
            one = rows == 1
            return _one_token_each(self._of_one(batch.ids) if one else self._of_many(batch))
        weight = self.score.index_select(0, batch.ids).float().exp()
        if batch.seen is not None:
            weight = weight * batch.seen
        pooled = _mean(self.table.weight, batch.ids, weight, layout, self.sparse)
        if self.pairs is not None:
            pairs = self._told_pair_mean if told else self._pair_mean
            pooled = (pooled + pairs(batch, self.pairs, layout)).to(pooled.dtype)
        return _one_token_each(pooled)

    def _of_one(self, ids: torch.Tensor) -> torch.Tensor:
        """One text's vector [1, h], from its tokens [t] on the host: the same in few calls."""
        table = self.table.weight
        share = self.score.index_select(0, ids).float().softmax(0)
        found = share @ table.index_select(0, ids).float()
        if self.pairs is not None and len(ids) > 1:
            buckets = torch.from_numpy(self._buckets(ids.numpy()))
            found = found + self.pairs.index_select(0, buckets).float().mean(0)
        return found.to(table.dtype).unsqueeze(0)

    def _of_many(self, batch: TokenBatch) -> torch.Tensor:
        """Those of several [b, h], each of a token or more: numpy's calls are cheaper."""
        ids, lengths = batch.ids.numpy(), batch.lengths
        stops = np.cumsum(lengths)
        starts = stops - lengths
        weight = np.exp(self.score.index_select(0, batch.ids).float().numpy())
        share = weight / np.repeat(np.add.reduceat(weight, starts), lengths)
        first = torch.from_numpy(starts)
        pooled = _sum(self.table.weight, batch.ids, torch.from_numpy(share), first)
        if self.pairs is None:
            return pooled
        # a row's last token has a pair that weighs nothing
        share = np.repeat((1 / np.maximum(lengths - 1, 1)).astype(np.float32), lengths)
        share[stops - 1] = 0
        bucket = torch.from_numpy(np.append(self._buckets(ids), 0))
        return pooled + _sum(self.pairs, bucket, torch.from_numpy(share), first).to(pooled.dtype)

    def parted(self, batch: TokenBatch, blank: TokenBatch) -> Parted:
        """One row as what each token adds to its vector: its own share, and half of each pair's.

        Of a text that says nothing it is zeros, whatever the tokens of `blank`.
        """
        ids, table = batch.ids, self.table
        parts: torch.Tensor = self.score[ids].float().softmax(0).unsqueeze(1) * table(ids).float()
        if self.pairs is not None and len(ids) > 1:
            both = torch.stack([ids[:-1], ids[1:]], 1)
            shares = self.score[both].float().softmax(1).unsqueeze(2)
            alone = (shares * table(both).float()).sum(1)
            found = self.embed(TokenBatch(both.flatten(), np.full(len(both), 2)))
            pairs = found.hidden[0].float() - alone
            half = pairs / (2 * len(pairs))
            parts[:-1] += half
            parts[1:] += half
        given = parts.unsqueeze(0)
        return Parted(given, torch.zeros_like(given), self._joined)

    def _joined(self, parts: torch.Tensor) -> State:
        return _one_token_each(parts.sum(1).to(self.table.weight.dtype))

    def run(self, state: State, start: int, stop: int) -> State:
        """There are no layers: the state as it is."""
        return state

    def pool(self, state: State) -> torch.Tensor:
        """The text's vector [b, h]."""
        return state.hidden[0]

    def classify(self, state: State) -> torch.Tensor:
        """Raises FamilyError: a bag has no head of its own."""
        raise FamilyError("a bag has no head of its own: give its tier an exit head at depth 0")

    def layer_work(self, layer: int) -> int:
        """Raises IndexError: there are no layers."""
        raise IndexError("a bag has no layers")

    def embed_work(self) -> int:
        """Multiply-adds per token."""
        return self.hidden * (1 if self.pairs is None else 2)

    def head_work(self) -> int:
        """There is no own head."""
        return 0

    def _buckets(self, ids: Ids) -> Ids:
        """Where each token's pair with the next one is found, [t - 1] of [t]."""
        # multiplicative hashing; the products stay below 2^63 for any vocabulary
        mixed = ids[:-1] * 2654435761 + ids[1:] * 2246822519
        return (mixed ^ (mixed >> 15)) % self.buckets

    def _told_pair_mean(
        self, batch: TokenBatch, table: torch.Tensor, layout: Packed
    ) -> torch.Tensor:
        """The same without a number of the host: a row's last token has a pair that weighs 0."""
        owner = layout.owner
        inside = (owner[1:] == owner[:-1]).float()
        bucket = torch.cat([self._buckets(batch.ids), batch.ids[-1:] * 0])
        weight = torch.cat([inside, inside.new_zeros(1)])
        return _mean(table, bucket, weight, layout)

    def _pair_mean(self, batch: TokenBatch, table: torch.Tensor, rows: Packed) -> torch.Tensor:
        layout = Packed(np.maximum(rows.lengths - 1, 0), batch.ids.device)
        bucket = self._buckets(batch.ids)
        seen = None if batch.seen is None else batch.seen[1:]  # the second token decides
        if len(batch.lengths) > 1:  # pairs of the last token of one text and the first of the next
            starts = np.cumsum(batch.lengths) - batch.lengths
            inside = put(ranges(starts, layout.lengths), layout.device)
            bucket = bucket.index_select(0, inside)
            seen = None if seen is None else seen.index_select(0, inside)
        if seen is not None:
            return _mean(table, bucket, seen.float(), layout, self.sparse)
        count = layout.lengths.astype(np.float32)
        share = np.repeat(1 / np.maximum(count, 1), layout.lengths)
        return _sum(table, bucket, put(share, layout.device), layout.starts, self.sparse)


def _one_token_each(pooled: torch.Tensor) -> State:
    """Texts [b, h] as rows of one token."""
    layout = Packed(np.ones(len(pooled), np.int64), pooled.device)
    return State(pooled.unsqueeze(0), layout)


def _mean(
    table: torch.Tensor,
    ids: torch.Tensor,
    weight: torch.Tensor,
    layout: Packed,
    sparse: bool = False,
) -> torch.Tensor:
    """Weighted means of table rows, [b, h]; zeros where a row has no ids or no weight."""
    total = weight.new_zeros(layout.rows).index_add(0, layout.owner, weight)
    share = weight / total.clamp(min=1e-6).index_select(0, layout.owner)
    return _sum(table, ids, share, layout.starts, sparse)


def _sum(
    table: torch.Tensor,
    ids: torch.Tensor,
    share: torch.Tensor,
    starts: torch.Tensor,
    sparse: bool = False,
) -> torch.Tensor:
    """Weighted sums of table rows, [b, h], without ever holding [t, h]; `starts` [b] of each."""
    # mode 0 is the sum; torch.nn.functional's wrapper costs as much as a short text
    found: torch.Tensor = torch.embedding_bag(
        table, ids, starts, False, 0, sparse, share.to(table.dtype)
    )[0]
    return found
