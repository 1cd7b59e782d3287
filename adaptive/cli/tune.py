"""`adaptive tune`: runners, threads and batch sizes measured on this machine, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from adaptive.cli.session import Session, table
from adaptive.cli.threads import usable_cores


def tune(session: Session, bundle: str, threads: Sequence[int] | None, batch: int) -> None:
    """Measure, and tell what is quickest in batches of one size, and what to do with it."""
    from adaptive.cli.labelled import local_folder
    from adaptive.training.tune import BATCH_SIZES, advice
    from adaptive.training.tune import tune as measure

    counts = sorted(set(threads or (1, usable_cores())))
    sizes = sorted({*BATCH_SIZES, batch})
    session.note(f"measuring with {', '.join(map(str, counts))} threads: one to two minutes")
    tuning = measure(local_folder(bundle), threads=counts, batch_sizes=sizes)
    facts = {
        "tokens": tuning.tokens,
        "lines": [asdict(line) for line in tuning.lines],
        "best": {tier: list(found) for tier, found in tuning.best(batch).items()},
        "left_out": tuning.left_out,
        "advice": advice(tuning, batch),
    }
    session.emit(facts, lambda console: show(facts, console))


def show(facts: dict[str, Any], console: Console) -> None:
    """The figures for a terminal: a line for each tier, runner and number of threads."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in facts["lines"]:
        key = line["tier"], line["runner"], line["threads"]
        mark = f"{line['runner']} (served)" if line["served"] else line["runner"]
        row = rows.setdefault(key, {"tier": key[0], "runner": mark, "threads": key[2]})
        row[f"batch_{line['batch_size']}"] = line["milliseconds"]
    title = f"Milliseconds a text of {facts['tokens']} tokens, through a whole tier"
    console.print(table(title, list(rows.values())))
    told = [f"{runner} is left out: {why}" for runner, why in facts["left_out"].items()]
    for text in (*told, facts["advice"]):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
