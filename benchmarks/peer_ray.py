"""The full tier of a bundle in Ray Serve, one replica, batches made by `serve.batch`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

# Read where Ray is imported. The processes are stopped for minutes while others are measured, which
# is no reason to take them for dead.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_health_check_timeout_ms": "3600000",
    "RAY_health_check_failure_threshold": "1000",
}

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

WAIT_S = 0.005  # for a batch to fill
PATIENCE_S = 3600.0


class Api:
    """One text a request, batches of what comes within `WAIT_S`."""

    def __init__(self, source: str, batch: int) -> None:
        import torch
        from peer_models import PEERS, Shop

        from adaptive import AdaptivePipeline

        torch.set_num_threads(1)
        self.size = batch
        self.bundle = AdaptivePipeline.from_config(source).bundle
        self.serve = PEERS["torch eager"].make(Shop(self.bundle, Path(), [], 1, fresh=False))
        self.labels.set_max_batch_size(batch)

    async def __call__(self, request: Any) -> dict[str, str]:
        body = await request.json()
        return {"label": await self.labels(str(body["inputs"]))}

    @ray_serve.batch(batch_wait_timeout_s=WAIT_S)  # type: ignore[untyped-decorator]
    async def labels(self, texts: list[str]) -> list[str]:
        return [self.bundle.labels[int(each)] for each in self.serve(texts, self.size)]


def serve(source: Path, port: int, batch: int) -> None:
    """Listen until it is stopped."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    ray.init(
        address="local",
        object_store_memory=256 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    deployment = ray_serve.deployment(
        Api,
        name="peer",
        max_ongoing_requests=1024,
        health_check_period_s=PATIENCE_S,
        health_check_timeout_s=PATIENCE_S,
    )
    ray_serve.run(deployment.bind(str(source), batch), name="peer", route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray_serve.shutdown()
    ray.shutdown()
