"""The classifier behind a segment."""

from __future__ import annotations

import torch
from torch import nn


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
