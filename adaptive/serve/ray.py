"""The server on a Ray cluster: an ingress that passes requests on, and replicas that answer them.

Each replica is the application of `app.py` with its own engine. The ingress gives a request its
deadline, and asks another replica where the one that had it dies (`relay.py`). Ray Serve restarts
replicas, drains them, and has as many as their queued cost asks for (`scaling.py`).

    serve run adaptive.serve.ray:app bundle=/bundle config=/etc/adaptive/serve.yaml
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read where Ray starts

from ray import serve
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import LoggingConfig
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from adaptive.serve.bodies import read
from adaptive.serve.gate import INTERNAL, shaped
from adaptive.serve.logs import configure
from adaptive.serve.memory import freeze
from adaptive.serve.refusals import CLIENT_GONE, Refusal
from adaptive.serve.relay import Reply, Sent, call, pass_on
from adaptive.serve.replicas import EVERY, of_replicas, seconds_for, together
from adaptive.serve.scaling import QUEUED, QueuedCost
from adaptive.serve.settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from adaptive.serve.service import Service

log = logging.getLogger("adaptive.serve")
DIED = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
STARTS = 3  # of a replica, before it is taken to be broken
HEALTH_S = 5.0  # between two looks at a replica
# lines of Ray's own would hold paths
QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")


class Replica:
    """The application and its engine in one process of the cluster."""

    # Ray Serve awaits it, so that the replica is ready with its bundle open
    async def __init__(  # type: ignore[misc]
        self, bundle: str, settings: Settings, options: dict[str, Any]
    ) -> None:
        # the ingress imports this module, too, and is ready sooner without these
        import torch

        from adaptive.serve.app import create_app
        from adaptive.serve.deployment import Deployment

        configure()
        torch.set_num_threads(max(1, int(settings.ray.cpus)))
        self._name = serve.get_replica_context().replica_id.unique_id
        self._app = await asyncio.to_thread(
            create_app,
            settings,
            lambda deliver: Deployment.open(bundle, settings, deliver, **options),
        )
        self._service.settle = freeze
        self._life = await _started(self._app)

    async def answer(self, sent: Sent) -> Reply:
        """What the application answers."""
        return await call(self._app, sent)

    async def answer_named(self, sent: Sent) -> tuple[str, Reply]:
        """The same beside the replica's name."""
        return self._name, await call(self._app, sent)

    def check_health(self) -> None:
        """Raises where a step of the engine hangs: Ray Serve then starts another replica."""
        if self._service.hung:
            raise RuntimeError("a step of the engine hangs")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `scaling.QueuedCost` reads."""
        return {QUEUED: self._service.load.queued_ms}

    @property
    def _service(self) -> Service:
        found: Service = self._app.state.service
        return found

    async def __del__(self) -> None:
        # once what is in flight is answered
        if life := getattr(self, "_life", None):
            await life.__aexit__(None, None, None)


async def _started(app: FastAPI) -> AbstractAsyncContextManager[Any]:
    """Begin an application's life, and wait until it is ready.

    Raises:
        BundleError: golden inputs failed.
    """
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            started.set_exception(error)
        elif not started.done():
            started.set_result(None)

    app.state.started = note
    life: AbstractAsyncContextManager[Any] = app.router.lifespan_context(app)
    await life.__aenter__()
    await started
    return life


class Ingress:
    """Takes requests of HTTP and passes each on to a replica."""

    def __init__(self, replicas: Any, settings: Settings) -> None:
        configure()
        self._replicas, self._settings = replicas, settings

    async def __call__(self, request: Request) -> Response:
        """One request."""
        path = request.url.path
        try:
            reply = await self._reply(request, path)
        except Refusal as refusal:
            return JSONResponse(shaped(path, refusal), refusal.status, refusal.headers)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:  # what it says may quote the request
            log.error("a request could not be passed on: %s", type(error).__name__)
            return Response(INTERNAL, 500, media_type="application/json")
        response = Response(reply.body, reply.status)
        response.raw_headers = [h for h in reply.headers if h[0] != b"content-length"]
        response.raw_headers.append((b"content-length", str(len(reply.body)).encode()))
        return response

    async def _reply(self, request: Request, path: str) -> Reply:
        limits = self._settings.limits
        most = limits.stream_bytes if path == "/v1/stream" else limits.bytes
        body = await read(request, most, limits.body_s)
        headers = tuple(request.headers.raw)
        sent = Sent(request.method, path, request.scope["query_string"], headers, body)
        ask = self._ask_all if path in EVERY else self._ask
        return await pass_on(sent, ask, seconds_for(sent, self._settings), DIED)

    async def _ask(self, sent: Sent) -> Reply:
        response = self._replicas.answer.remote(sent)
        try:
            reply: Reply = await response
            return reply
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _ask_all(self, sent: Sent) -> Reply:
        replies = await self._replicas.broadcast("answer_named", sent).results_async()
        return together(sent.path, dict(replies))


def build(bundle: str, settings: Settings, options: dict[str, Any] | None = None) -> Any:
    """The application for `serve.run`.

    Args:
        bundle: a place that every machine of the cluster has.
        options: of `AdaptivePipeline.from_config`.

    Raises:
        ConfigError: something in the settings works in one process alone.
    """
    own, kind = of_replicas(settings), settings.ray
    requests = settings.limits.requests
    replicas = serve.deployment(
        Replica,
        name="replica",
        autoscaling_config=AutoscalingConfig(
            min_replicas=kind.min_replicas,
            max_replicas=kind.max_replicas,
            policy=AutoscalingPolicy(
                policy_function=QueuedCost, policy_kwargs={"queued_ms": kind.queued_ms}
            ),
        ),
        # the replica itself refuses what is too much, and at once
        max_ongoing_requests=2 * requests,
        graceful_shutdown_timeout_s=settings.drain_s,
        health_check_period_s=HEALTH_S,
        max_constructor_retry_count=STARTS,
        ray_actor_options={"num_cpus": kind.cpus, "num_gpus": kind.gpus},
        logging_config=QUIET,
    )
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=kind.ingresses,
        max_ongoing_requests=2 * requests * kind.max_replicas,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={"num_cpus": 0},
        logging_config=QUIET,
    )
    return ingress.bind(replicas.bind(bundle, own, options or {}), settings)


def app(given: dict[str, str]) -> Any:
    """For `serve run` and for KubeRay: arguments `bundle` and, if wanted, `config` and `device`."""
    settings = load_settings(given.get("config"))
    return build(given["bundle"], settings, {"device": given.get("device")})
