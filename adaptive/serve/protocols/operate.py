"""For operators: health, metrics, an exchange of the bundle, and the page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from adaptive.serve.protocols.common import REFUSALS, caller_of, service_of
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Service

router = APIRouter(tags=["Operation"])
# all of the page is in the page: nothing is loaded, nothing else is asked
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


@router.get("/health/live", responses=REFUSALS)
async def live(request: Request) -> JSONResponse:
    """Whether the process is in order; else it has to be started anew."""
    fine = not service_of(request).hung
    return JSONResponse({"live": fine}, 200 if fine else 503)


@router.get("/health/ready", responses=REFUSALS)
async def ready(request: Request) -> JSONResponse:
    """Whether requests are answered, and by what."""
    service = service_of(request)
    fine = service.state in ("ready", "degraded")
    return JSONResponse({"ready": fine, **condition(service)}, 200 if fine else 503)


@router.get("/health/startup", responses=REFUSALS)
async def startup(request: Request) -> JSONResponse:
    """Whether it has started."""
    started = service_of(request).started
    return JSONResponse({"started": started}, 200 if started else 503)


@router.get("/metrics", responses={**REFUSALS, 200: {"content": {CONTENT_TYPE_LATEST: {}}}})
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    caller_of(request, "metrics")
    return Response(service_of(request).metrics.page(), media_type=CONTENT_TYPE_LATEST)


@router.get("/stats", responses=REFUSALS)
async def stats(request: Request) -> dict[str, Any]:
    """The shares of tiers and exits, and what they cost, for the page."""
    caller_of(request, "metrics")
    service = service_of(request)
    load = {"requests": service.load.requests, "queued_ms": round(service.load.queued_ms, 3)}
    return {**condition(service), **load, **service.metrics.shares()}


@router.post("/admin/reload", responses={**REFUSALS, 409: {"description": "Not exchanged"}})
async def reload(request: Request) -> dict[str, Any]:
    """Open the bundle again, try it, and serve it; where anything is wrong all stays as it is."""
    caller_of(request, "admin")
    service = service_of(request)
    await service.reload()
    return condition(service)


@router.post("/admin/canary", responses={**REFUSALS, 409: {"description": "Not on trial"}})
async def start_canary(request: Request) -> dict[str, Any]:
    """Let the settings' canary answer its share of the requests."""
    caller_of(request, "admin")
    service = service_of(request)
    await service.start_trial()
    return condition(service)


@router.delete("/admin/canary", responses=REFUSALS)
async def stop_canary(request: Request) -> dict[str, Any]:
    """Roll the canary back; what it has begun it answers."""
    caller_of(request, "admin")
    service = service_of(request)
    service.roll_back("an operator said so")
    return condition(service)


@router.get("/", response_class=HTMLResponse)
async def page(request: Request) -> HTMLResponse:
    """A page to try a text on, and to watch the shares."""
    if not service_of(request).settings.page:
        raise Refusal(404, "there is no page")
    text = files("adaptive.serve").joinpath("page.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})


def condition(service: Service) -> dict[str, Any]:
    """How the server is."""
    deployment = service.deployment
    names = [tier.name for tier in deployment.bundle.tiers]
    return {
        "state": service.state,
        "bundle": deployment.bundle.name,
        "fenced": {names[tier]: why for tier, why in deployment.loop.fenced.items()},
        "audit": service.audit.condition(),
        "canary": None if service.trial is None else service.trial.condition(),
        "certified": [level.name for level in deployment.levels.values() if level.target],
    }
