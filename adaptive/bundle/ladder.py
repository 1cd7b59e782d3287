"""A front of policies as a bundle keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adaptive.bundle.contents import LadderEntry
from adaptive.certificate.promises import Tested

if TYPE_CHECKING:
    from adaptive.policy.search import Found
    from adaptive.types import Policy


def ladder_of(
    front: Sequence[Tested | Found],
    further: Mapping[float, Sequence[Tested | Found]] | None = None,
) -> tuple[LadderEntry, ...]:
    """A front as a bundle's ladder, each policy with what the rows it was last seen on say.

    Args:
        further: fronts of other levels; what they have and the first has not comes behind it.
    """
    named = {f"policy-{index}": each for index, each in enumerate(front)}
    for level, other in (further or {}).items():
        named |= {f"{level:g}/policy-{index}": each for index, each in enumerate(other)}
    ladder: dict[Policy, LadderEntry] = {}
    for name, each in named.items():
        figures = {"cost": each.cost, "excess": each.excess}
        if isinstance(each, Tested):
            figures["p_value"] = each.p_value
        ladder.setdefault(each.policy, LadderEntry(name, each.policy, figures))
    return tuple(ladder.values())
