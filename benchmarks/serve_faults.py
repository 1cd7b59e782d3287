"""A server of one process while something goes wrong around it.

    python benchmarks/serve_faults.py --bundle FOLDER --texts FILE.csv [--only stop reload ...]

For each fault a server is started in a process of its own and asked over loopback, eight texts a
request; the fault comes once a third is sent.

stop      SIGTERM: what was taken is answered, then the process ends
reload    the bundle is exchanged, as an operator does
vanish    a hundred clients send a request and go away at once
stall     fifty clients send half of a body and no more
disk      feedback is sent, and no file may grow beyond 4 KiB, as on a full disk

Faults inside of a process (a tier that raises, hangs or gives no numbers) are in
tests/serve/test_faults.py, deaths of a process in benchmarks/serve_ray.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from asking import ITEMS, arguments, ask, keep, known
from served import Server, client, samples

from adaptive.serve.keys import new_key

KEY, DIGEST = new_key()
SCOPES = ["predict", "admin", "feedback", "metrics"]
FILE_BYTES = 4096
FAULTS = {
    "stop": "SIGTERM under load",
    "reload": "reload under load",
    "vanish": "clients that vanish",
    "stall": "clients that stall in the middle of a body",
    "disk": "a full disk under the feedback",
}


def main() -> None:
    given = arguments(__doc__.splitlines()[0], list(FAULTS), 300, 16).parse_args()
    texts, labels = known(given)
    key = {"name": "benchmark", "sha256": DIGEST, "scopes": SCOPES}
    settings = {"audit": {"share": 0}, "keys": [key], "feedback": {"folder": "feedback"}}
    for name in given.only:
        limit = FILE_BYTES if name == "disk" else None
        with Server(given.bundle, settings, file_bytes=limit) as server:
            row = asyncio.run(measure(server, name, texts, labels, given.clients))
            status = server.end()
            row |= {"exit_status": status, "left_by_the_server": server.told("stopped")[0]["lost"]}
            if name == "disk":
                file = server.folder / "feedback" / "feedback.jsonl"
                lines = file.read_text().splitlines()
                row["whole_lines_kept"] = len([json.loads(line) for line in lines])
        keep(given.record, "faults", {"fault": FAULTS[name], **row})


async def measure(
    server: Server, name: str, texts: list[str], labels: list[str], clients: int
) -> dict[str, Any]:
    """Ask while one of the faults happens."""
    async with client(clients + 1, KEY) as http:

        async def happens() -> dict[str, Any]:
            return await HAPPENS[name](server, http, texts, labels)

        row = await ask(http, server.url, texts, labels, clients, happens)
        if name in ("vanish", "stall"):
            found = await samples(http, server.url, "adaptive_requests_in_flight")
            row["in_flight_at_the_end"] = found[0].value
    return row


async def stopped(server: Server, *_: Any) -> dict[str, Any]:
    """As a supervisor stops it."""
    server.stopping = True
    server.process.send_signal(signal.SIGTERM)
    return {}


async def reloaded(server: Server, http: httpx.AsyncClient, *_: Any) -> dict[str, Any]:
    """Reload as an operator does."""
    got = await http.post(f"{server.url}/admin/reload")
    return {"status": got.status_code}


async def vanished(
    server: Server, http: httpx.AsyncClient, texts: list[str], labels: list[str]
) -> dict[str, Any]:
    """Clients that do not wait for their answers."""
    for at in range(100):
        writer = await _begun(server, json.dumps({"inputs": texts[at : at + ITEMS]}))
        writer.close()
    return {"vanished": 100}


async def stalled(
    server: Server, http: httpx.AsyncClient, texts: list[str], labels: list[str]
) -> dict[str, Any]:
    """Clients whose bodies never end; they are there until the server gives them up."""
    body = json.dumps({"inputs": texts[:ITEMS]})
    writers = [await _begun(server, body, len(body) // 2) for _ in range(50)]
    await asyncio.sleep(20.0)  # the limit is 15 seconds
    for writer in writers:
        writer.close()
    return {"stalled": len(writers)}


async def _begun(server: Server, body: str, most: int | None = None) -> asyncio.StreamWriter:
    """A request of which this much of the body is sent."""
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    writer.write(head.encode() + body.encode()[:most])
    await writer.drain()
    return writer


async def filled(
    server: Server, http: httpx.AsyncClient, texts: list[str], labels: list[str]
) -> dict[str, Any]:
    """Feedback until no more can be kept, and some beyond."""
    statuses: Counter[str] = Counter()
    kept = 0
    for at in range(0, 40 * ITEMS, ITEMS):
        rows = zip(texts[at : at + ITEMS], labels[at : at + ITEMS], strict=True)
        items = [{"text": text, "label": label} for text, label in rows]
        got = await http.post(f"{server.url}/v1/feedback", json={"items": items})
        statuses[str(got.status_code)] += 1
        kept += got.json().get("kept", 0)
    return {"feedback_statuses": dict(statuses), "told_kept": kept}


HAPPENS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "stop": stopped,
    "reload": reloaded,
    "vanish": vanished,
    "stall": stalled,
    "disk": filled,
}

if __name__ == "__main__":
    main()
