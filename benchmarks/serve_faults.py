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

import argparse
import asyncio
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from asking import ITEMS, ask, keep
from serve import client

from adaptive import AdaptivePipeline
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


class Server:
    """A server in a process of its own, and the lines of its log."""

    def __init__(self, bundle: Path, folder: Path, *, file_bytes: int | None = None) -> None:
        """Start it, and wait until it is ready.

        Args:
            file_bytes: no file that it writes may be larger.
        """
        config = folder / "serve.yaml"
        key = {"name": "benchmark", "sha256": DIGEST, "scopes": SCOPES}
        settings = {"port": 0, "audit": {"share": 0}, "keys": [key]}
        config.write_text(yaml.safe_dump({**settings, "feedback": {"folder": "feedback"}}))

        def bound() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        command = [sys.executable, "-m", "adaptive", "serve", str(bundle)]
        self.process = subprocess.Popen(
            [*command, "--config", str(config), "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=bound,
        )
        self.log: list[dict[str, Any]] = []
        self.stopping = False
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(300) or self.process.poll() is not None:
            raise RuntimeError("the server did not start")
        listens = self.told("listening")[0]
        self.url = f"http://{listens['host']}:{listens['port']}"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            if text.startswith("{"):
                self.log.append(json.loads(text))
            if self.told("ready"):
                self._ready.set()
        self._ready.set()

    def told(self, message: str) -> list[dict[str, Any]]:
        """The log's lines of one kind."""
        return [line for line in self.log if line.get("message") == message]

    def end(self) -> int:
        """Stop it, unless that has been done; its status."""
        if self.process.poll() is None and not self.stopping:
            self.process.terminate()
        status = self.process.wait(60)
        self._reader.join(10)
        return status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    with given.texts.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][: ITEMS * given.requests]
    pipeline = AdaptivePipeline.from_config(given.bundle)
    labels = [answer["label"] for answer in pipeline(texts)]
    del pipeline
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            limit = FILE_BYTES if name == "disk" else None
            server = Server(given.bundle, Path(folder), file_bytes=limit)
            try:
                row = asyncio.run(measure(server, name, texts, labels, given.clients))
            finally:
                status = server.end()
            row |= {"exit_status": status, "left_by_the_server": server.told("stopped")[0]["lost"]}
            if name == "disk":
                lines = (Path(folder) / "feedback" / "feedback.jsonl").read_text().splitlines()
                row["whole_lines_kept"] = len([json.loads(line) for line in lines])
            keep(given.record, {"fault": FAULTS[name], **row})


async def measure(
    server: Server, name: str, texts: list[str], labels: list[str], clients: int
) -> dict[str, Any]:
    """Ask while one of the faults happens."""
    async with client(clients + 1) as http:
        http.headers["Authorization"] = f"Bearer {KEY}"

        async def happens() -> dict[str, Any]:
            return await HAPPENS[name](server, http, texts, labels)

        row = await ask(http, server.url, texts, labels, clients, happens)
        if name in ("vanish", "stall"):
            page = (await http.get(f"{server.url}/metrics")).text
            found = [x for x in page.splitlines() if x.startswith("adaptive_requests_in_flight ")]
            row["in_flight_at_the_end"] = float(found[0].rpartition(" ")[2])
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
