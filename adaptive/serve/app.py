"""The application: routes, what errors look like, start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import adaptive
from adaptive.serve.gate import Gate, shaped
from adaptive.serve.keys import Keyring
from adaptive.serve.protocols import classify, feedback, huggingface, kserve, operate, stream
from adaptive.serve.refusals import CLIENT_GONE, Refusal
from adaptive.serve.service import GoneError, Opener, Service
from adaptive.serve.settings import Settings

log = logging.getLogger("adaptive.serve")


def create_app(settings: Settings, opener: Opener, canary: Opener | None = None) -> FastAPI:
    """The application on a bundle, which is opened here and tried where the application starts.

    Args:
        opener: opens the bundle, now and at each reload; see `adaptive.serve.service.Service`.
        canary: opens the bundle that the settings name as a canary.

    Raises:
        AdaptiveError: the bundle cannot be opened.
    """
    service = Service(settings, opener, canary)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        """Answers to probes come at once, all others once the golden inputs have passed."""
        starting = asyncio.create_task(service.start())
        starting.add_done_callback(app.state.started)
        try:
            yield
        finally:
            starting.cancel()
            await service.stop()

    app = FastAPI(
        title="adaptive",
        summary="A cascade of text classifiers with a certificate",
        version=adaptive.__version__,
        lifespan=life,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.state.keyring = Keyring(settings.keys)
    app.state.started = _note_failure
    # the order in which addresses are looked for: those that are asked most come first
    for each in (huggingface, classify, kserve, stream, feedback, operate):
        app.include_router(each.router)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(GoneError, _gone)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(Gate, service=service)
    return app


def _note_failure(starting: asyncio.Task[None]) -> None:
    if not starting.cancelled() and (error := starting.exception()) is not None:
        log.error("the server cannot start: %s: %s", type(error).__name__, error)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException):  # no such route or method
        refusal = Refusal(error.status_code, "no such address or method")
        headers = dict(error.headers or {})
    elif isinstance(error, Refusal):
        refusal, headers = error, error.headers
    else:
        refusal, headers = Refusal(422, "a parameter of the query is not as expected"), {}
    content = shaped(request.url.path, refusal)
    return JSONResponse(content, refusal.status, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)
