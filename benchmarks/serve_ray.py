"""Replicas on Ray that die, are reloaded and grow in number, while they answer.

    python benchmarks/serve_ray.py --bundle FOLDER --texts FILE.csv [--only kill kills reload grow]

Two replicas on a Ray cluster that this process starts; clients ask over loopback, and in the middle
of it one replica is killed (`kill`), or one and a second later the other (`kills`), or both reload
their bundle (`reload`). An answer is lost where a request has none, or another label than the
pipeline's own. It is doubled where a text is answered more than once in a request of many. `grow`
starts with one replica that may become two, and waits until they are.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
from asking import ITEMS, arguments, ask, keep, known
from served import client, samples

from adaptive.serve import cluster  # before Ray: it says how Ray is to start
from adaptive.serve.keys import new_key

FAULTS = {
    "kill": "a replica killed while it answers (Ray)",
    "kills": "both replicas killed within a second (Ray)",
    "reload": "reload under load (Ray)",
}
GROW = "grow"
# a replica may take minutes to start beside others on one core: that is not what is measured
TIMEOUT_S = 240
GROW_MS = 5.0  # queued, that one replica should have
GROW_S = 300.0  # to wait for the second one
KEY, DIGEST = new_key()


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], [*FAULTS, GROW], 400, 8)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    texts, labels = known(given)
    cluster.start_cluster(log_to_driver=False, cpus=1)
    try:
        faults = [each for each in given.only if each != GROW]
        if faults:
            start(given.bundle, given.port, least=2)
        for each in faults:
            asyncio.run(until(2))
            row = asyncio.run(measure(address(given.port), texts, labels, given.clients, each))
            keep(given.record, "faults", {"fault": FAULTS[each], **row})
        if GROW in given.only:
            start(given.bundle, given.port, least=1)
            told = asyncio.run(grow(address(given.port), texts, given.clients))
            keep(given.record, "scaling", told)
    finally:
        cluster.stop_all()


def start(bundle: Path, port: int, least: int) -> None:
    """Begin to serve a bundle by this many replicas, and two at most."""
    from adaptive.serve.ray import build
    from adaptive.serve.settings import load_settings

    own = {"min_replicas": least, "max_replicas": 2, "cpus": 0.4, "timeout_s": TIMEOUT_S}
    key = {"name": "benchmark", "sha256": DIGEST, "scopes": ["predict", "admin", "metrics"]}
    given = {"ray": {**own, "queued_ms": GROW_MS}, "keys": [key], "audit": {"share": 0}}
    settings = load_settings(None, {**given, "log": False})
    cluster.start(build(str(bundle.resolve()), settings), settings, port)


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def measure(
    url: str, texts: list[str], labels: list[str], clients: int, fault: str
) -> dict[str, Any]:
    """Ask while one of the faults happens."""
    async with client(clients + 1, KEY) as http:
        return await ask(http, url, texts, labels, clients, lambda: HAPPENS[fault](http, url))


async def killed(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """End a replica's process at once."""
    kill(replicas()[0])
    return {"kills": 1}


async def killed_both(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """End one, and a second later the other: no replica is left until a new one has started."""
    victims = replicas()
    for victim in victims:
        kill(victim)
        await asyncio.sleep(1.0)
    return {"kills": len(victims)}


async def reloaded(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """Reload as an operator does; how many replicas say that they did."""
    began = time.monotonic()
    got = await http.post(f"{url}/admin/reload")
    took = time.monotonic() - began
    done = await samples(http, url, "adaptive_reloads_total")
    count = sum(each.value for each in done if each.labels["outcome"] == "done")
    return {"status": got.status_code, "reloads": int(count), "reload_s": round(took, 2)}


HAPPENS: dict[str, Callable[[httpx.AsyncClient, str], Coroutine[Any, Any, dict[str, Any]]]] = {
    "kill": killed,
    "kills": killed_both,
    "reload": reloaded,
}


async def grow(url: str, texts: list[str], clients: int) -> dict[str, Any]:
    """Ask without a pause until there are two replicas; what was answered meanwhile."""
    statuses: Counter[str] = Counter()
    began, over = time.monotonic(), False
    async with client(clients + 1, KEY) as http:

        async def ask_on(at: int) -> None:
            while not over:
                body = {"inputs": texts[at : at + ITEMS], "parameters": {"top_k": 1}}
                got = await http.post(url, json=body)
                statuses[str(got.status_code)] += 1
                at = (at + ITEMS) % (len(texts) - ITEMS)

        asking = [asyncio.create_task(ask_on(ITEMS * each)) for each in range(clients)]
        try:
            await until(2, GROW_S)
        finally:
            over = True
            await asyncio.gather(*asking)
    took = time.monotonic() - began
    return {
        "queued_ms": GROW_MS,
        "from": 1,
        "to": len(replicas()),
        "seconds": round(took, 1),
        "statuses": dict(statuses),
    }


async def until(count: int, seconds: float = TIMEOUT_S) -> None:
    """Wait until so many replicas are ready."""
    end = time.monotonic() + seconds
    while running() < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{running()} of {count} replicas are ready after {seconds:g} s")
        await asyncio.sleep(1.0)


def running() -> int:
    """How many replicas are ready, as Ray Serve says."""
    from ray import serve

    application = serve.status().applications[cluster.NAME]
    return int(application.deployments["replica"].replica_states.get("RUNNING", 0))


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
