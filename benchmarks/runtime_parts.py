"""Where the time of a call goes: shares of the parts of the hot loop, which sum to the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from adaptive.engine import engine, exits, finished, hops
from adaptive.engine.rows import SlotTable
from adaptive.routers import Router
from adaptive.text import tokens
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier

REST = "Python"
PARTS = ("tokenise", "route", "gather", "segments", "heads", "transfer", REST)
PLACES: tuple[tuple[Any, str, str], ...] = (
    (tokens, "tokenize", "tokenise"),
    (engine, "token_statistics", "route"),
    (engine, "router_features", "route"),
    (Router, "risk", "route"),
    (engine, "choose_entry", "route"),
    (SlotTable, "tokens_of", "gather"),
    (hops, "to_device", "gather"),
    (State, "select", "gather"),
    (Tier, "embed", "segments"),
    (Tier, "advance", "segments"),
    (hops, "run_exit", "heads"),
    (exits, "on_host", "transfer"),
    (finished, "on_host", "transfer"),
)


def shares(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median share of each part in the CPU time of a run; the first run warms up.

    `Python` is whatever is none of the others: the loop's own bookkeeping, and making answers.
    """
    runs = []
    for repeat in range(repeats + 1):
        with clocks() as spent:
            begun = time.process_time()
            run()
            whole = time.process_time() - begun
        if repeat:
            runs.append([spent[part] / whole for part in PARTS[:-1]])
    found = np.median(runs, axis=0).tolist()
    return dict(zip(PARTS, [*found, 1 - sum(found)], strict=True))


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """CPU seconds inside each part, while it lasts; where parts nest, the inner one's alone."""
    spent = dict.fromkeys(PARTS[:-1], 0.0)
    inside = [0.0]  # of the parts within each one that is running

    def clocked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            inside.append(0.0)
            begun = time.process_time()
            try:
                return function(*given, **options)
            finally:
                took = time.process_time() - begun
                spent[part] += took - inside.pop()
                inside[-1] += took

        return run

    with ExitStack() as stack:
        for owner, name, part in PLACES:
            changed = clocked(getattr(owner, name), part)
            stack.enter_context(mock.patch.object(owner, name, changed))
        yield spent
