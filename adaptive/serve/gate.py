"""Around every request: a number, a place among those in flight, a log line, and no error that
tells anything of the request or of the server's inside."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adaptive.serve.logs import told
from adaptive.serve.refusals import Refusal

if TYPE_CHECKING:  # the ingress of a cluster has no engine, and starts without it
    from adaptive.serve.service import Service

log = logging.getLogger("adaptive.serve")
_QUIET = ("/health/live", "/health/ready", "/health/startup", "/metrics")
INTERNAL = b'{"error":"internal error"}'


class Gate:
    """ASGI middleware. It is the outermost layer: nothing raised reaches the server's log."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, began, status = f"{random.getrandbits(64):016x}", time.perf_counter(), 0
        state = scope.setdefault("state", {})
        facts: dict[str, Any] = {}
        state["facts"] = facts
        traces = self.service.metrics.traces
        span = traces.begin(scope["headers"])

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", number.encode())]
                if self.service.draining:  # so that the client opens its next one elsewhere
                    own.append((b"connection", b"close"))
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        try:
            await self.app(scope, receive, numbered)
        except Exception as error:
            # what it says may quote the request, so its type alone is told
            log.error("request %s failed: %s", number, type(error).__name__)
            if not status:
                await _internal(numbered)
        finally:
            took = time.perf_counter() - began
            self._note(scope, number, status, took, facts)
            if span is not None:
                traces.end(span, _method(scope), _route(scope), status, {"id": number, **facts})

    def _note(
        self, scope: Scope, number: str, status: int, took: float, facts: dict[str, Any]
    ) -> None:
        path = _route(scope)
        metrics = self.service.metrics
        metrics.requests.labels(path, status).inc()
        metrics.seconds.labels("total").observe(took)
        if self.service.settings.log and path not in _QUIET:
            told(
                "request",
                id=number,
                method=_method(scope),
                route=path,
                status=status,
                ms=round(1000.0 * took, 3),
                **facts,
            )


_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    """The route's pattern, never the path that was asked for."""
    return getattr(scope.get("route"), "path", None) or "unknown"


async def _internal(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": INTERNAL})


def shaped(path: str, refusal: Refusal) -> dict[str, Any]:
    """A refusal as the protocol of this path tells errors."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
        error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.status}
        return {"error": error}
    return {"error": refusal.message}
