"""Clients of the fault benchmarks: they ask while something happens, and count what comes back."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import records
from served import texts_of

from adaptive import AdaptivePipeline

ITEMS = 8  # of a request
COMMIT = records.commit()  # before the record is written, which makes it another


def arguments(
    told: str, names: Sequence[str], requests: int, clients: int
) -> argparse.ArgumentParser:
    """The parser of a fault benchmark's command line.

    Args:
        told: the first line of the help.
        names: of what may happen.
        requests, clients: by default.
    """
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--only", nargs="+", choices=names, default=list(names))
    parser.add_argument("--requests", type=int, default=requests)
    parser.add_argument("--clients", type=int, default=clients)
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    return parser


def known(given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The texts of all requests, and the pipeline's own labels for them."""
    texts = texts_of(given.texts)[: ITEMS * given.requests]
    pipeline = AdaptivePipeline.from_config(given.bundle)
    return texts, [answer["label"] for answer in pipeline(texts)]


async def ask(
    http: httpx.AsyncClient,
    url: str,
    texts: list[str],
    labels: list[str],
    clients: int,
    happens: Callable[[], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Ask about all texts, and let something happen once a third is sent; the figures of its row.

    An answer is lost where a request has none or another label than the pipeline's own, doubled
    where a text is answered more than once in a request of many, and refused where the server no
    longer took the connection.

    Args:
        labels: the pipeline's own.
        clients: that ask at once.
    """
    parts = [slice(at, at + ITEMS) for at in range(0, len(texts), ITEMS)]
    counts = dict.fromkeys(("sent", "answered", "lost", "doubled", "refused"), 0)
    statuses: Counter[str] = Counter()
    gate, slowest = asyncio.Semaphore(clients), 0.0
    happening: asyncio.Future[dict[str, Any]] | None = None

    async def one(part: slice) -> None:
        nonlocal slowest, happening
        async with gate:
            counts["sent"] += 1
            if happening is None and counts["sent"] >= len(parts) // 3:
                happening = asyncio.ensure_future(happens())
            body = {"inputs": texts[part], "parameters": {"top_k": 1}}
            began = time.monotonic()
            try:
                got = await http.post(url, json=body)
            except httpx.ConnectError:
                counts["sent"] -= 1
                counts["refused"] += 1
                return
            except httpx.TransportError as error:
                statuses[type(error).__name__] += 1
                counts["lost"] += 1
                return
            slowest = max(slowest, time.monotonic() - began)
        statuses[str(got.status_code)] += 1
        found = [each[0]["label"] for each in got.json()] if got.status_code == 200 else []
        right = found == labels[part]
        counts["answered"] += right
        counts["lost"] += not right
        counts["doubled"] += len(found) > len(labels[part])

    await asyncio.gather(*map(one, parts))
    assert happening is not None
    return {
        **await happening,
        **counts,
        "errors_5xx": sum(n for status, n in statuses.items() if status.startswith("5")),
        "statuses": dict(statuses),
        "slowest_s": round(slowest, 2),
    }


def keep(file: Path, section: str, told: dict[str, Any]) -> None:
    """Into the record, as soon as it is known; its other figures are of other runs."""
    told |= {"commit": COMMIT, "machine": records.machine()}
    record = records.read(file)
    if section == "faults":
        others = [row for row in record.get(section, []) if row["fault"] != told["fault"]]
        record[section] = [*others, told]
    else:
        record[section] = told
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told), flush=True)
