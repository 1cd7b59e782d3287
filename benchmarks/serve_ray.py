"""Replicas killed while they answer: whether any answer is lost or doubled.

    python benchmarks/serve_ray.py --bundle FOLDER --texts FILE.csv

Two replicas on a Ray cluster that this process starts; clients ask over loopback, and in the middle
of it one replica is killed. An answer is lost where a request has none, or another label than the
pipeline's own. It is doubled where a text is answered more than once in a request of many.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import records

from adaptive import AdaptivePipeline
from adaptive.serve import cluster  # before Ray: it says how Ray is to start

ITEMS = 8  # of a request
FAULT = "a replica killed while it answers (Ray)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--port", type=int, default=8000)
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    with given.texts.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][: ITEMS * given.requests]
    pipeline = AdaptivePipeline.from_config(given.bundle)
    labels = [answer["label"] for answer in pipeline(texts)]
    row = killed(given.bundle, texts, labels, given.clients, given.port)
    record = records.read(given.record)
    others = [each for each in record.get("faults", []) if each["fault"] != FAULT]
    records.write(given.record, {**record, "faults": [*others, row]})
    print(json.dumps(row))


def killed(
    bundle: Path, texts: list[str], labels: list[str], clients: int, port: int
) -> dict[str, Any]:
    """The row of the record.

    Args:
        labels: the pipeline's own.
    """
    from adaptive.serve.ray import build
    from adaptive.serve.settings import load_settings

    # a replica may take minutes to start beside others on one core: that is not what is measured
    own = {"min_replicas": 2, "max_replicas": 2, "cpus": 0.4, "timeout_s": 240}
    settings = load_settings(None, {"ray": own, "audit": {"share": 0}, "log": False})
    cluster.start_cluster(log_to_driver=False, cpus=1)
    try:
        cluster.start(build(str(bundle.resolve()), settings), settings, port)
        return asyncio.run(ask(f"http://127.0.0.1:{port}", texts, labels, clients))
    finally:
        cluster.stop_all()


async def ask(address: str, texts: list[str], labels: list[str], clients: int) -> dict[str, Any]:
    """Ask about all texts, and kill a replica on the way."""
    parts = [slice(at, at + ITEMS) for at in range(0, len(texts), ITEMS)]
    sent = answered = lost = doubled = kills = 0
    statuses: Counter[str] = Counter()
    gate, victims = asyncio.Semaphore(clients), replicas()
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as http:

        async def one(part: slice) -> None:
            nonlocal sent, answered, lost, doubled, kills
            async with gate:
                sent += 1
                if not kills and sent >= len(parts) // 3:
                    kill(victims[0])
                    kills = 1
                body = {"inputs": texts[part], "parameters": {"top_k": 1}}
                got = await http.post(address, json=body)
            statuses[str(got.status_code)] += 1
            found = [each[0]["label"] for each in got.json()] if got.status_code == 200 else []
            answered += found == labels[part]
            lost += len(found) < len(labels[part]) or found != labels[part]
            doubled += len(found) > len(labels[part])

        await asyncio.gather(*map(one, parts))
    return {
        "fault": FAULT,
        "kills": kills,
        "sent": sent,
        "answered": answered,
        "lost": lost,
        "doubled": doubled,
        "errors_5xx": sum(count for status, count in statuses.items() if status >= "500"),
        "statuses": dict(statuses),
    }


def replicas() -> list[Any]:
    """Handles of the replicas that run now."""
    import ray

    found = ray.util.list_named_actors(all_namespaces=True)
    names = [each["name"] for each in found if "#replica#" in each["name"]]
    return [ray.get_actor(name, namespace="serve") for name in names]


def kill(replica: Any) -> None:
    """End a replica's process at once."""
    import ray

    ray.kill(replica, no_restart=True)


if __name__ == "__main__":
    main()
