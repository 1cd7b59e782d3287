"""Every error the library raises on purpose.

    AdaptiveError
    ├── ConfigError      a recipe or preset is wrong; every fault is listed
    ├── DataError        a data file or data set is wrong; names file and row
    ├── InputError       an item given to a pipeline is wrong; names its index
    ├── FamilyError      a model of a family that has no adapter
    ├── BundleError      a bundle is damaged, foreign or unsafe; names the file
    ├── TargetError      no policy keeps the target
    ├── BatchError       a batch of an engine failed; names the slots of its rows
    └── BuildError       a step of a build could not do its work

Each also derives from the builtin that callers would catch without knowing the library
(`ValueError` for wrong values, `RuntimeError` for work that failed). Messages never quote
user text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AdaptiveError(Exception):
    """Root of the library's errors."""


class ConfigError(AdaptiveError, ValueError):
    """A configuration is wrong. `faults` holds one line per fault."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join([message, *(f"  - {fault}" for fault in self.faults)]))


class DataError(AdaptiveError, ValueError):
    """A data set is wrong; the message names file and row."""


class InputError(AdaptiveError, ValueError):
    """Items given to a pipeline were refused.

    Attributes:
        faults: index of each refused item, and why.
        answers: what the other items were answered, in order, None where refused.
    """

    def __init__(self, faults: dict[int, str], answers: list[Any] | None = None) -> None:
        self.faults = dict(faults)
        self.answers = answers
        shown = [f"item {index}: {why}" for index, why in list(self.faults.items())[:10]]
        if len(self.faults) > len(shown):
            shown.append(f"and {len(self.faults) - len(shown)} more")
        super().__init__("; ".join(shown))


class FamilyError(AdaptiveError, ValueError):
    """A transformer family that no adapter knows."""


class BundleError(AdaptiveError, ValueError):
    """A bundle is damaged, foreign or unsafe; the message names the file."""


class TargetError(AdaptiveError, ValueError):
    """A target cannot be kept, or is not one the bundle knows."""


class BatchError(AdaptiveError, RuntimeError):
    """A batch of an engine failed. Its rows have left the engine; all others go on.

    Attributes:
        slots: those of its rows, which are free again.
        cause: what was raised.
        tier: the place of the tier whose hop it ran; None where that is not told.
    """

    def __init__(self, slots: Sequence[int], cause: Exception, tier: int | None = None) -> None:
        self.slots, self.cause, self.tier = tuple(slots), cause, tier
        shown = ", ".join(map(str, self.slots[:10])) + (", ..." if len(self.slots) > 10 else "")
        super().__init__(
            f"a batch of {len(self.slots)} rows failed with {type(cause).__name__}: slots {shown}; "
            "submit them again, in smaller groups, to find the one at fault"
        )


class BuildError(AdaptiveError, RuntimeError):
    """A build step could not do its work."""
