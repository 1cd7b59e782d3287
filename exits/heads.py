"""The classifier behind a segment."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# Names of a head's weights in graphs, in the order in which they are used.
LINEAR_HEAD = ("head.scale", "head.shift", "head.matrix", "head.bias")
HIDDEN_HEAD = (*LINEAR_HEAD[:2], "head.inner_matrix", "head.inner_bias", *LINEAR_HEAD[2:])


class ExitHead(nn.Module):
    """LayerNorm, then a linear classifier or one hidden layer of `width`.

    The norm makes the head indifferent to the scale of the hidden states, which grows with
    depth in pre-norm families.
    """

    def __init__(self, hidden: int, classes: int, width: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.classifier: nn.Module = (
            nn.Linear(hidden, classes)
            if width is None
            else nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, classes))
        )

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits [b, classes] of pooled hidden states [b, hidden]."""
        logits: torch.Tensor = self.classifier(self.norm(pooled))
        return logits

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as they are now and will be, by the names of graphs; matrices [out, in]."""
        weights = [each.detach().numpy() for each in self.parameters()]
        names = LINEAR_HEAD if len(weights) == len(LINEAR_HEAD) else HIDDEN_HEAD
        return dict(zip(names, weights, strict=True))
