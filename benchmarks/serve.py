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
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import records
from prometheus_client.samples import Sample
from served import Server, client, samples, texts_of

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
    asyncio.run(measure(given, texts_of(given.texts)))


def note(given: argparse.Namespace, **figures: Any) -> None:
    """Into the record, as soon as they are known."""
    told = {**records.read(given.record), "bundle": given.about or given.bundle.name}
    records.write(given.record, told | figures)
    print(json.dumps(figures), flush=True)


async def measure(given: argparse.Namespace, texts: list[str]) -> None:
    """Everything that needs a server."""
    settings = {"limits": {"requests": given.queue}, "audit": {"share": 0}, "log": False}
    with Server(given.bundle, settings) as server:
        process, address = server.process, server.url
        note(given, load=await load(address, texts, given.concurrent, given.queue))
        pipeline = AdaptivePipeline.from_config(given.bundle)
        single = await one_by_one(process, address, pipeline, texts, given.single)
        note(given, overhead_cpu_ms=single.pop("overhead_cpu_ms"), single=single)
        many = await together(process, address, pipeline, texts, given.many)
        ratio = many.pop("throughput_over_engine")
        note(given, throughput_over_engine=ratio, many=many)
        note(given, memory=await lasting(process, address, texts, given.lasting))


def cpu_of(process: subprocess.Popen[str]) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def load(address: str, texts: list[str], concurrent: int, queue: int) -> dict[str, Any]:
    """So many requests at once against a small queue."""
    async with client(concurrent) as http:

        async def one(index: int) -> tuple[int, float]:
            began = time.perf_counter()
            got = await http.post(address, json={"inputs": texts[index % len(texts)]})
            return got.status_code, 1000.0 * (time.perf_counter() - began)

        found = await asyncio.gather(*(one(index) for index in range(concurrent)))
        buckets = await samples(http, address, "adaptive_stage_seconds_bucket")
    engine = [each for each in buckets if each.labels["stage"] == "engine"]
    taken = [ms for status, ms in found if status == 200]
    return {
        "concurrent": concurrent,
        "queue": queue,
        "statuses": {str(k): v for k, v in Counter(status for status, _ in found).items()},
        "taken_p50_ms": float(np.quantile(taken, 0.5)),
        "taken_p99_ms": float(np.quantile(taken, 0.99)),
        "engine_p99_ms_at_most": 1000.0 * upper_quantile(engine, 0.99),
    }


def upper_quantile(buckets: Sequence[Sample], share: float) -> float:
    """The least bucket of a histogram that holds this share, in seconds."""
    counts = {float(each.labels["le"]): each.value for each in buckets}
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
