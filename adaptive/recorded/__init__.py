"""Certify what was recorded: language models and any black box, from a file of outcomes.

    from adaptive.recorded import certify_outcomes, open, write
    from adaptive.types import Target

    found = certify_outcomes("outcomes.jsonl", Target("accuracy_drop", 0.02), prices="prices.yaml")
    write(found, "router/")
    router = open("router/")
    tier = router.route("What is 7 x 8?")

No model runs. See docs/outcomes.md for the file.
"""

from adaptive.recorded.certifying import Certified, certify_outcomes
from adaptive.recorded.deciding import Router
from adaptive.recorded.fingerprints import Coverage, Fingerprint
from adaptive.recorded.reading import Source, read_outcomes
from adaptive.recorded.store import open, write

__all__ = [
    "Certified",
    "Coverage",
    "Fingerprint",
    "Router",
    "Source",
    "certify_outcomes",
    "open",
    "read_outcomes",
    "write",
]
