"""AdaLoRA's part of a training: how rank is taken away, and the loss that keeps it meaningful.

Zhang et al. 2023 (arXiv:2303.10512) write each update as P diag(E) Q and drop, step by step, the
singular values that matter least in all matrices together. peft has the matrices and the
allocator; its model adds the loss in a forward of its own, which tiers do not call.
"""

from __future__ import annotations

from typing import Any

import torch

ORTHOGONAL = 0.1  # weight of the regulariser; section 4 of the paper searches 0.1 to 0.5
BEGIN, END = 0.1, 0.5  # shares of the steps before rank is taken away, and after that
ALLOCATIONS = 500  # at most, about


def schedule(steps: int) -> dict[str, int]:
    """When rank is taken away in a training of so many steps, as peft's config has it."""
    return {
        "total_step": steps,
        "tinit": int(BEGIN * steps),
        "tfinal": int(END * steps),
        "deltaT": max(1, steps // ALLOCATIONS),
    }


def orthogonality(adapters: Any) -> torch.Tensor:
    """What the singular vectors lack of being orthogonal, a mean over matrices (equation 4)."""
    found = [
        torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device))
        for name, each in adapters.named_parameters()
        if "lora_A" in name or "lora_B" in name
        for gram in [each @ each.T if "lora_A" in name else each.T @ each]
    ]
    return torch.stack(found).mean()
