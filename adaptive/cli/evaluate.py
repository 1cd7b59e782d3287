"""`adaptive evaluate`: the policy beside each tier alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from adaptive.cli.session import table

SHARES = ("accuracy", "full_accuracy", "agreement", "abstained", "share")


def show_report(report: Mapping[str, Any], console: Console) -> None:
    """A report for a terminal: ways to answer, who answered, and what that is worth."""
    title = f"{report['texts']:,} texts" if "texts" in report else None
    quality = report.get("quality", "accuracy")
    if quality != "accuracy":
        title = f"{title or 'texts'}; accuracy is {quality}"
    console.print(table(title, report["rows"], percent=SHARES))
    shares = report["stage_shares"]
    rows = [{"answered by": stage, "share": share} for stage, share in shares.items()]
    console.print(table(None, rows, percent=SHARES))
    if report.get("groups"):
        console.print(table("Groups", report["groups"], percent=SHARES))
    lines = [_summary(report)] if report.get("work_ratio") else []
    if "single" in report:
        lines.append(_single(report["single"]))
    if "cut" in report:
        lines.append(_length(report))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _summary(report: Mapping[str, Any]) -> str:
    """The policy against the full tier in one sentence."""
    parts = [f"{report['work_ratio']:.1f} times less work"]
    if report.get("time_ratio"):
        parts.append(f"{report['time_ratio']:.1f} times less time")
    if report.get("accuracy_ratio"):
        parts.append(f"{report['accuracy_ratio']:.2%} of its accuracy")
    return f"the policy against the full tier: {', '.join(parts)}"


def _single(best: Mapping[str, Any] | None) -> str:
    """What a user would take in place of the policy, and what the policy is worth against it."""
    if best is None:
        return "no tier alone is known to keep the target on these texts"
    ratio = best["policy_time_ratio"]
    worth = f"{1 / ratio:.2f} times less" if ratio <= 1 else f"{ratio:.2f} times more"
    told = f"{best['work_ratio']:.1f} times less work, {best['time_ratio']:.1f} times less time"
    if best["accuracy_ratio"]:
        told += f", {best['accuracy_ratio']:.2%} of its accuracy"
    return (
        f"the best single tier that keeps the target on these texts, {best['name']}, against the "
        f"full tier: {told}; the policy takes {worth} time than it"
    )


def _length(figures: Mapping[str, Any]) -> str:
    return (
        f"texts are read up to {figures['max_length']} tokens; {figures['cut']:.2%} of these were "
        "longer and were cut"
    )
