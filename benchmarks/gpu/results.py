"""The file of results that grows while a run goes on, and the names that stand in it.

Loads no torch: what watches over a run and what reads it needs none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FULL, SINGLY = "full only", "full only, without graphs"
POLICY = "policy"
BASELINES = ("eager", "compiled", "graphs", "compiled graphs")


class Report:
    """What was found so far, in memory and in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, Any] = read(file)
        self.found.setdefault("stages", {})

    def write(self, **told: Any) -> None:
        """Put values at the top, and all of it on the disk: as a whole, or as it was before."""
        self.found |= told
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.file)

    def tell(self, stage: str, **told: Any) -> None:
        """What is known of a stage."""
        self.found["stages"].setdefault(stage, {"pieces": {}}).update(told)
        self.write()

    def keep(self, stage: str, piece: str, value: Any, seconds: float) -> None:
        """What came of a piece, and how long it took."""
        told = self.found["stages"][stage]
        told["pieces"][piece] = value
        told.setdefault("seconds_of", {})[piece] = round(seconds, 2)
        self.write()


def read(file: Path) -> dict[str, Any]:
    """What a report has written; empty where it has not yet."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found
