"""The head behind a segment."""

from __future__ import annotations

import pytest
import torch

from adaptive.exits.heads import ExitHead


@pytest.mark.parametrize("width", [None, 16])
def test_a_head_gives_logits_whatever_the_scale_of_the_hidden_states(width: int | None) -> None:
    torch.manual_seed(0)
    head = ExitHead(hidden=8, classes=3, width=width)
    pooled = torch.randn(5, 8)
    logits = head(pooled)
    assert logits.shape == (5, 3)
    torch.testing.assert_close(head(pooled * 100), logits, rtol=1e-3, atol=1e-4)


def test_only_a_head_with_a_width_can_learn_what_is_not_linear() -> None:
    torch.manual_seed(0)
    pooled = torch.randn(200, 4)
    pooled = torch.cat([pooled, -pooled], dim=1)  # norm keeps it as it is, up to scale
    labels = (pooled[:, 0] * pooled[:, 1] > 0).long()
    accuracy = {}
    for width in (None, 32):
        head = ExitHead(8, 2, width)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
        for _ in range(200):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(head(pooled), labels).backward()
            optimiser.step()
        accuracy[width] = (head(pooled).argmax(1) == labels).float().mean().item()
    assert accuracy[32] > 0.95
    assert accuracy[None] < 0.75
