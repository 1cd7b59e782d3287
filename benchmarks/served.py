"""A server in a process of its own, and what the serving benchmarks ask it with."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

START_S = 300.0  # at most


class Server:
    """`adaptive serve` with one thread, the lines of its log, and a folder for its settings.

    Attributes:
        url: where it listens.
        stopping: that it was told to stop already.
    """

    def __init__(
        self, bundle: Path, settings: dict[str, Any], *, file_bytes: int | None = None
    ) -> None:
        """Start it, and wait until it is ready.

        Args:
            settings: of serve.yaml; paths are in its folder.
            file_bytes: no file that it writes may be larger.
        """
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        config = self.folder / "serve.yaml"
        config.write_text(yaml.safe_dump({**settings, "port": 0}))

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
        self._told: list[str] = []  # as it came
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or not self.told("ready"):
            self.process.kill()
            raise RuntimeError(f"the server did not start: {''.join(self._told)}")
        listens = self.told("listening")[0]
        self.url = f"http://{listens['host']}:{listens['port']}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            if text.startswith("{"):
                self.log.append(json.loads(text))
            if not self._ready.is_set():
                self._told.append(text)
                if self.told("ready") and self.told("listening"):
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


def client(connections: int, key: str | None = None) -> httpx.AsyncClient:
    """A client of so many connections."""
    return httpx.AsyncClient(
        timeout=300,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
        trust_env=False,
    )


async def samples(http: httpx.AsyncClient, url: str, name: str) -> list[Sample]:
    """What `/metrics` says by this name."""
    page = (await http.get(f"{url}/metrics")).text
    families = text_string_to_metric_families(page)
    return [each for family in families for each in family.samples if each.name == name]


def texts_of(file: Path) -> list[str]:
    """The column `text` of a CSV file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]
