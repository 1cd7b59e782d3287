"""`adaptive top`: what a server does, in the terminal."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adaptive.cli.session import Session
from adaptive.errors import ConfigError

Stats = Mapping[str, Any]


def top(url: str, key: str | None, seconds: float, session: Session, *, once: bool) -> None:
    """Show a server's figures until the user leaves; once where asked, or where they are JSON.

    Args:
        key: one with the scope `metrics`, where the server has keys.
        seconds: between two looks.

    Raises:
        ConfigError: the server does not answer, or not this.
    """
    before, at = read(url, key), time.monotonic()
    if once or session.json:
        session.emit(dict(before), lambda console: console.print(page(before)))
        return
    with Live(page(before), auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            now, then = read(url, key), time.monotonic()
            live.update(page(now, before, then - at), refresh=True)
            before, at = now, then


def read(url: str, key: str | None) -> Stats:
    """A server's `/stats`.

    Raises:
        ConfigError: it does not answer, or not this.
    """
    address = url.rstrip("/") + "/stats"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{url}: expected an address such as http://127.0.0.1:8000")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=10
        ) as got:
            found = json.load(got)
    except urllib.error.HTTPError as error:
        error.close()
        hint = "; give a key with the scope `metrics`" if error.code in (401, 403) else ""
        raise ConfigError(f"{address}: answered {error.code}{hint}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{address}: {type(error).__name__}: no server answers there") from None
    if not isinstance(found, dict) or "answers" not in found:
        raise ConfigError(f"{address}: is no server of this project")
    return found


def page(now: Stats, before: Stats | None = None, seconds: float = 1.0) -> Group:
    """The figures, with rates where an earlier look is given."""
    share = now["cost"] / now["full_tier_cost"] if now["full_tier_cost"] else None
    spent = "-" if share is None else f"{share:.1%} of the full tier's"
    head = (
        f"{now['bundle']}: {now['state']}; {now['requests']} requests in flight, "
        f"{now['queued_ms']:.0f} ms queued; cost {spent}"
    )
    fenced = "".join(f"\n{tier} is fenced off: {why}" for tier, why in now["fenced"].items())
    canary = now.get("canary")
    trial = f"\ncanary {canary['bundle']}: {canary['requests']} requests" if canary else ""
    return Group(Text(head + fenced + trial), _answers(now, before, seconds), _audit(now))


def _answers(now: Stats, before: Stats | None, seconds: float) -> Table:
    table = Table("answered by", "share", "answers", "a second")
    total = sum(now["answers"].values())
    for name, count in now["answers"].items():
        rate = "-"
        if before is not None:
            rate = f"{(count - before['answers'].get(name, 0)) / seconds:.1f}"
        table.add_row(name, f"{count / total:.1%}", f"{count:,}", rate)
    return table


def _audit(now: Stats) -> Table:
    table = Table("promise", "audited", "unlike", "may be", "p-value", "steps back")
    for name, own in now["audit"].items():
        unlike, limit, p = own.get("unlike"), own.get("limit"), own.get("p_value")
        table.add_row(
            name,
            f"{own.get('rows', 0):,}",
            "-" if unlike is None else f"{unlike:.2%}",
            "-" if limit is None else f"{limit:.2%}",
            "-" if p is None else f"{p:.2g}",
            str(own["stepped_back"]),
        )
    return table
