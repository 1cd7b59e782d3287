"""The server under load, and what it costs beside the engine.

    python benchmarks/serve.py --bundle FOLDER --texts FILE.csv

`adaptive serve` runs in a process of its own with one thread, clients in this one, over loopback.
CPU time is the server process's alone, so that clients and neighbours on the machine disturb
little; the pipeline's own calls in this process are what it is compared with.

load        concurrent requests of one text against a small queue: statuses, what the client waited
            for those that were taken (its own work with so many connections counts), and how long
            the engine had 99 of 100 of them at most, by the server's histogram
overhead    CPU of a request of one text, one after the other, less the CPU of the pipeline's call
throughput  CPU of the pipeline's calls over the server's, both of 64 texts each; beside it the
            same with all texts in one call, which sorts them by length, and what both took by the
            clock
memory      resident bytes before and after many requests

`benchmarks/serve_audit.py` and `benchmarks/serve_attacks.py` add to the same record.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import records
import yaml

from adaptive import AdaptivePipeline

ITEMS = 64  # of a request where throughput is measured
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--about", default="", help="what the bundle is, for the record")
    parser.add_argument("--concurrent", type=int, default=600)
    parser.add_argument("--queue", type=int, default=32, help="requests in flight at most")
    parser.add_argument("--single", type=int, default=500, help="requests of one text")
    parser.add_argument("--many", type=int, default=100, help="requests of 64 texts")
    parser.add_argument("--lasting", type=int, default=5000, help="requests between two weighings")
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    with given.texts.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    asyncio.run(measure(given, texts))


def note(given: argparse.Namespace, **figures: Any) -> None:
    """Into the record, as soon as they are known."""
    told = {**records.read(given.record), "bundle": given.about or given.bundle.name}
    records.write(given.record, told | figures)
    print(json.dumps(figures), flush=True)


async def measure(given: argparse.Namespace, texts: list[str]) -> None:
    """Everything that needs a server."""
    settings = {"limits": {"requests": given.queue}, "audit": {"share": 0}}
    with server(given.bundle, settings) as (process, address):
        note(given, load=await load(address, texts, given.concurrent, given.queue))
        pipeline = AdaptivePipeline.from_config(given.bundle)
        single = await one_by_one(process, address, pipeline, texts, given.single)
        note(given, overhead_cpu_ms=single.pop("overhead_cpu_ms"), single=single)
        many = await together(process, address, pipeline, texts, given.many)
        ratio = many.pop("throughput_over_engine")
        note(given, throughput_over_engine=ratio, many=many)
        note(given, memory=await lasting(process, address, texts, given.lasting))


@contextmanager
def server(bundle: Path, settings: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "serve.yaml"
        config.write_text(yaml.safe_dump({**settings, "port": 0, "log": False}))
        command = [sys.executable, "-m", "adaptive", "serve", str(bundle)]
        process = subprocess.Popen(
            [*command, "--config", str(config), "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            yield process, address_of(process)
        finally:
            process.terminate()
            process.wait()


def address_of(process: subprocess.Popen[str]) -> str:
    """Where it listens, once it is ready."""
    assert process.stderr is not None
    address, ready, told = "", False, []
    for text in process.stderr:
        told.append(text)
        line = json.loads(text) if text.startswith("{") else {}
        if line.get("message") == "listening":
            address = f"http://{line['host']}:{line['port']}"
        ready = ready or line.get("message") == "ready"
        if address and ready:
            return address
    raise RuntimeError(f"the server did not start: {''.join(told)}")


def cpu_of(process: subprocess.Popen[str]) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def client(connections: int) -> httpx.AsyncClient:
    """A client of so many connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(timeout=300, limits=limits, trust_env=False)


async def load(address: str, texts: list[str], concurrent: int, queue: int) -> dict[str, Any]:
    """So many requests at once against a small queue."""
    async with client(concurrent) as http:

        async def one(index: int) -> tuple[int, float]:
            began = time.perf_counter()
            got = await http.post(address, json={"inputs": texts[index % len(texts)]})
            return got.status_code, 1000.0 * (time.perf_counter() - began)

        found = await asyncio.gather(*(one(index) for index in range(concurrent)))
        page = (await http.get(f"{address}/metrics")).text
    taken = [ms for status, ms in found if status == 200]
    return {
        "concurrent": concurrent,
        "queue": queue,
        "statuses": {str(k): v for k, v in Counter(status for status, _ in found).items()},
        "taken_p50_ms": float(np.quantile(taken, 0.5)),
        "taken_p99_ms": float(np.quantile(taken, 0.99)),
        "engine_p99_ms_at_most": 1000.0 * upper_quantile(page, "engine", 0.99),
    }


def upper_quantile(page: str, stage: str, share: float) -> float:
    """The least bucket of a stage's histogram that holds this share, in seconds."""
    start = 'adaptive_stage_seconds_bucket{le="'
    counts = {}
    for line in page.splitlines():
        if line.startswith(start) and f'stage="{stage}"' in line:
            counts[float(line[len(start) :].partition('"')[0])] = float(line.rpartition(" ")[2])
    return min(bound for bound, count in counts.items() if count >= share * max(counts.values()))


async def one_by_one(
    process: subprocess.Popen[str],
    address: str,
    pipeline: AdaptivePipeline,
    texts: list[str],
    count: int,
) -> dict[str, Any]:
    """Requests of one text, each after the one before."""
    asked = [texts[index % len(texts)] for index in range(count)]
    async with client(1) as http:
        for text in asked[:20]:
            await http.post(address, json={"inputs": text, "parameters": {"top_k": 1}})
        began, clock = cpu_of(process), time.perf_counter()
        for text in asked:
            got = await http.post(address, json={"inputs": text, "parameters": {"top_k": 1}})
            got.raise_for_status()
        used, took = cpu_of(process) - began, time.perf_counter() - clock
    for text in asked[:20]:
        pipeline(text)
    began = time.process_time()
    for text in asked:
        pipeline(text)
    own = time.process_time() - began
    return {
        "requests": count,
        "server_cpu_ms": 1000.0 * used / count,
        "pipeline_cpu_ms": 1000.0 * own / count,
        "overhead_cpu_ms": 1000.0 * (used - own) / count,
        "round_trip_ms": 1000.0 * took / count,
    }


async def together(
    process: subprocess.Popen[str],
    address: str,
    pipeline: AdaptivePipeline,
    texts: list[str],
    count: int,
) -> dict[str, Any]:
    """Requests of many texts, some at once."""
    asked = [
        [texts[(index * ITEMS + k) % len(texts)] for k in range(ITEMS)] for index in range(count)
    ]
    async with client(4) as http:
        gate = asyncio.Semaphore(4)

        async def one(items: list[str]) -> None:
            async with gate:
                body = {"inputs": items, "parameters": {"top_k": 1}}
                (await http.post(address, json=body)).raise_for_status()

        await one(asked[0])
        began, clock = cpu_of(process), time.perf_counter()
        await asyncio.gather(*map(one, asked))
        used, took = cpu_of(process) - began, time.perf_counter() - clock
    flat = [text for items in asked for text in items]
    pipeline(asked[0])
    began, clock = time.process_time(), time.perf_counter()
    for items in asked:
        pipeline(items)
    own, own_took = time.process_time() - began, time.perf_counter() - clock
    began = time.process_time()
    pipeline(flat)
    at_once = time.process_time() - began
    return {
        "texts": len(flat),
        "server_cpu_ms": 1000.0 * used / len(flat),
        "pipeline_cpu_ms": 1000.0 * own / len(flat),
        "pipeline_at_once_cpu_ms": 1000.0 * at_once / len(flat),
        "throughput_over_engine": own / used,
        "over_one_call": at_once / used,
        "by_the_clock": own_took / took,
    }


async def lasting(
    process: subprocess.Popen[str], address: str, texts: list[str], count: int
) -> dict[str, Any]:
    """Memory before and after many requests."""

    async def ask(requests: int) -> None:
        async with client(16) as http:
            gate = asyncio.Semaphore(16)

            async def one(index: int) -> None:
                async with gate:
                    await http.post(address, json={"inputs": texts[index % len(texts)]})

            await asyncio.gather(*map(one, range(requests)))

    await ask(count // 5)
    before = resident(process)
    await ask(count)
    after = resident(process)
    return {"requests": count, "before_mb": before / 2**20, "after_mb": after / 2**20}


if __name__ == "__main__":
    main()
