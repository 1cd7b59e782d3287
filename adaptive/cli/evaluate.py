"""`adaptive evaluate`: the policy beside the full tier and each tier alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from adaptive.cli.session import table

SHARES = ("accuracy", "agreement", "share")


def show(report: Mapping[str, Any], console: Console) -> None:
    """A report of `adaptive.evaluation.evaluate`, for a terminal."""
    console.print(table(None, report["rows"], percent=SHARES))
    shares = report.get("stage_shares", {})
    if shares:
        rows = [{"answered by": stage, "share": share} for stage, share in shares.items()]
        console.print(table(None, rows, percent=SHARES))
