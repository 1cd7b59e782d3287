"""Prefix tuning: learnt keys and values that every token of a text sees, in each layer.

The model's own weights stay as they are (Li and Liang 2021, arXiv:2101.00190; for classification
Liu et al. 2021, arXiv:2110.07602). Nothing can be added up here as with low-rank matrices, so a
prefix stays one when the tier is served: `attention` puts it before the keys and values of each
row. Rows keep their positions, and what is pooled are their own tokens alone.
"""

from __future__ import annotations

import torch
from torch import nn

from adaptive.errors import FamilyError

CHILD = "prefix"  # of a layer's attention module


class Prefix(nn.Module):
    """Keys and values [heads, p, d] of one layer; heads are those of the layer's keys."""

    def __init__(self, heads: int, tokens: int, size: int) -> None:
        """Drawn from torch's global generator, near to zero."""
        super().__init__()
        self.keys = nn.Parameter(0.02 * torch.randn(heads, tokens, size))
        self.values = nn.Parameter(0.02 * torch.randn(heads, tokens, size))

    def cut(self, heads: list[int]) -> None:
        """Keep the keys and values of the given heads."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            kept = nn.Parameter(old.detach()[heads].clone(), requires_grad=old.requires_grad)
            setattr(self, name, kept)

    def before(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [b, heads, w, d] with the prefix before them: [b, heads, p + w, d].

        Where the layer's heads are shared, each comes as often as it is shared.
        """
        both = []
        for own, rows in ((self.keys, key), (self.values, value)):
            shared = own.to(rows.dtype).repeat_interleave(rows.shape[1] // len(own), dim=0)
            both.append(torch.cat([shared.expand(len(rows), -1, -1, -1), rows], dim=2))
        return both[0], both[1]


def prefix_of(attention: nn.Module) -> Prefix | None:
    """The prefix in an attention module; a look-up, since every layer of every batch asks."""
    found = attention._modules.get(CHILD)
    assert found is None or isinstance(found, Prefix)
    return found


def tokens_of(layers: nn.ModuleList, path: str) -> int:
    """How long the prefix of a model's layers is, in tokens; 0 for none.

    Args:
        path: of the attention module, from a layer.
    """
    found = prefix_of(layers[0].get_submodule(path))
    return 0 if found is None else found.keys.shape[1]


def check_prefix(family: str, packed: bool) -> None:
    """Raise FamilyError where a family's attention takes no prefix."""
    if not packed:
        raise FamilyError(
            f"tune: prefix: the attention of a {family} model is its own and takes no prefix; "
            "use lora or adalora, which are merged into the weights, or full"
        )
