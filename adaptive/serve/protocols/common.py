"""What every protocol needs of a request: who asks, until when, and whether they are there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import Request

from adaptive.serve.bodies import gone
from adaptive.serve.keys import Caller, Keyring, given_key
from adaptive.serve.post import Replies
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask, Service
from adaptive.serve.settings import Scope

LONGEST_DEADLINE_MS = 86_400_000.0
DEADLINE = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_DEADLINE_MS},
    "description": "Milliseconds within which an answer is wanted, sure or not.",
}


def caller_of(request: Request, scope: Scope) -> Caller:
    """Who asks.

    Raises:
        Refusal: it may not.
    """
    keyring: Keyring = request.app.state.keyring
    given = given_key(request.headers.get("authorization"), request.headers.get("x-api-key"))
    caller = keyring.caller(given, scope)
    request.state.facts["key"] = caller.name
    return caller


def service_of(request: Request) -> Service:
    """The application's."""
    found: Service = request.app.state.service
    return found


def deadline_of(request: Request) -> float | None:
    """When an answer is wanted, on the monotonic clock.

    Raises:
        Refusal: the header is no number of milliseconds.
    """
    given = request.headers.get("x-deadline-ms")
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= LONGEST_DEADLINE_MS:
        raise Refusal(400, "X-Deadline-Ms: expected a number of milliseconds above 0")
    return time.monotonic() + value / 1000.0


def check_count(items: Sequence[Any], service: Service) -> None:
    """Refuse too many items.

    Raises:
        Refusal: there are more than may be.
    """
    most = service.settings.limits.items
    if len(items) > most:
        raise Refusal(413, f"{len(items)} items; {most} are taken at once, more in a stream")


@asynccontextmanager
async def watched(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client goes. The body must have been read."""
    task = asyncio.create_task(gone(request))
    try:
        yield task
    finally:
        task.cancel()


async def answered(request: Request, ask: Ask, caller: Caller) -> Replies:
    """The replies to a request whose body was read.

    Raises:
        Refusal: it cannot be answered, or not now.
        GoneError: the client has gone.
    """
    service = service_of(request)
    check_count(ask.items, service)
    request.state.facts["items"] = len(ask.items)
    async with watched(request) as task:
        return await service.answer(ask, caller, task)


def single_fault(found: Replies) -> None:
    """Refuse a request of one item that has no answer.

    Raises:
        Refusal: it has none.
    """
    if 0 in found.errors:
        status = 504 if found.expired else 500 if found.failed else 400
        raise Refusal(status, found.errors[0])


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that is read by hand."""
    schema = model.model_json_schema()
    schema = _inline(schema, schema.pop("$defs", {}))
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [DEADLINE]}


def _inline(value: Any, parts: dict[str, Any]) -> Any:
    """A schema with its parts in their places, since OpenAPI looks for them elsewhere."""
    if isinstance(value, list):
        return [_inline(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inline(parts[value["$ref"].rpartition("/")[2]], parts)
    return {key: _inline(each, parts) for key, each in value.items()}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not as expected, or the target is not certified"},
    401: {"description": "No key, or an unknown one"},
    403: {"description": "The key may not do this"},
    408: {"description": "The body came too slowly"},
    413: {"description": "Too large"},
    422: {"description": "A field is missing or of another type"},
    429: {"description": "Too much at once; see Retry-After"},
    500: {"description": "The model failed on this item"},
    503: {"description": "The server is starting, stopping or out of order"},
    504: {"description": "The deadline came before any answer"},
}

__all__ = [
    "DEADLINE",
    "REFUSALS",
    "JSONResponse",
    "answered",
    "caller_of",
    "check_count",
    "deadline_of",
    "json_body",
    "service_of",
    "single_fault",
    "watched",
]
