"""Certify what was recorded: language models and any black box, from a file of outcomes.

    from adaptive.recorded import certify_outcomes, open, write
    from adaptive.types import Target

    found = certify_outcomes("outcomes.jsonl", Target("accuracy_drop", 0.02), prices="prices.yaml")
    write(found, "router/")
    router = open("router/")
    tier = router.route("What is 7 x 8?")

No model runs. See docs/outcomes.md for the file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive.recorded.certifying import Certified as Certified
    from adaptive.recorded.certifying import certify_outcomes as certify_outcomes
    from adaptive.recorded.deciding import Router as Router
    from adaptive.recorded.fingerprints import Coverage as Coverage
    from adaptive.recorded.fingerprints import Fingerprint as Fingerprint
    from adaptive.recorded.reading import Source as Source
    from adaptive.recorded.reading import read_outcomes as read_outcomes
    from adaptive.recorded.store import open as open
    from adaptive.recorded.store import write as write

_LAZY = {
    "Certified": "certifying",
    "Coverage": "fingerprints",
    "Fingerprint": "fingerprints",
    "Router": "deciding",
    "Source": "reading",
    "certify_outcomes": "certifying",
    "open": "store",
    "read_outcomes": "reading",
    "write": "store",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"adaptive.recorded.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'adaptive.recorded' has no attribute {name!r}")
