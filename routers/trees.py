"""The gradient-boosted router: trees as plain arrays, all walked at once, level by level."""

from __future__ import annotations

import torch
from torch import nn

from adaptive.routers.checks import floats, indices, sizes

_DEEPEST = 32


class Trees(nn.Module):
    """Sums of regression trees: T trees of at most N nodes for each of o tiers.

    feature, left, right [o, T, N] int64 and threshold, value [o, T, N]: at a node a row goes
    left where its feature is at most the threshold. A leaf is its own left and right child.
    prior [o] is the log odds before any tree; depth [] the longest walk.
    """

    TENSORS = ("feature", "threshold", "left", "right", "value", "prior", "depth")
    feature: torch.Tensor
    threshold: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    value: torch.Tensor
    prior: torch.Tensor
    depth: torch.Tensor
    root: torch.Tensor

    def __init__(
        self,
        inputs: int,
        feature: torch.Tensor,
        threshold: torch.Tensor,
        left: torch.Tensor,
        right: torch.Tensor,
        value: torch.Tensor,
        prior: torch.Tensor,
        depth: torch.Tensor,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs, self.trees, nodes = shape = sizes("feature", feature, 3)
        self.register_buffer("feature", indices("feature", feature, shape, inputs))
        self.register_buffer("threshold", floats("threshold", threshold, shape))
        self.register_buffer("left", indices("left", left, shape, nodes))
        self.register_buffer("right", indices("right", right, shape, nodes))
        self.register_buffer("value", floats("value", value, shape))
        self.register_buffer("prior", floats("prior", prior, (self.outputs,)))
        self.register_buffer("depth", indices("depth", depth, (), _DEEPEST + 1))
        roots = torch.arange(self.outputs * self.trees) * nodes
        self.register_buffer("root", roots, persistent=False)
        # On the host, so that no call has to wait for the device to learn it.
        self.levels = int(depth)

    def forward(self, standard: torch.Tensor) -> torch.Tensor:
        """Risk [b, o] of standardised features [b, F]."""
        feature, threshold = self.feature.flatten(), self.threshold.flatten()
        left, right = self.left.flatten(), self.right.flatten()
        node = self.root.expand(len(standard), -1)  # [b, o * T] in the flat arrays
        for _ in range(self.levels):
            goes_left = standard.gather(1, feature[node]) <= threshold[node]
            node = self.root + torch.where(goes_left, left[node], right[node])
        leaves = self.value.flatten()[node].view(-1, self.outputs, self.trees)
        return torch.sigmoid(leaves.sum(2) + self.prior)

    def work(self) -> float:
        """Multiply-adds a text, a comparison counted as one."""
        return float(self.outputs * self.trees * self.levels)
