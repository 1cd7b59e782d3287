"""A request on its way to a replica: what is sent, how long it may take, and a second try.

Nothing here knows Ray: `ask` is whatever brings a request to a replica and its reply back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import ASGIApp, Message

from adaptive.serve.refusals import Refusal

DEADLINE = b"x-deadline-ms"
log = logging.getLogger("adaptive.serve")
GRACE_S = 1.0  # a replica answers when the time is up; that answer must still come through
ONCE = ("/v1/feedback", "/admin/")  # paths of requests that change something: never sent twice
Headers = tuple[tuple[bytes, bytes], ...]


class Sent(NamedTuple):
    """A request of HTTP, whole."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes


class Reply(NamedTuple):
    """An answer of HTTP, whole."""

    status: int
    headers: Headers
    body: bytes


Ask = Callable[[Sent], Awaitable[Reply]]


async def pass_on(
    sent: Sent,
    ask: Ask,
    seconds: float,
    died: tuple[type[BaseException], ...],
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """A replica's reply within so many seconds; once more where the replica dies meanwhile.

    The replica is told how much of the time is left, so that its engine decides by it. A text's
    answer depends on nothing but the text, so asking twice changes nothing; requests that change
    something are asked once.

    Args:
        ask: gives the reply, or raises one of `died`.

    Raises:
        Refusal: 504 where the time is up, 503 where the replica died and no other may be asked.
    """
    end = clock() + seconds
    tries = 1 if sent.path.startswith(ONCE) else 2
    for _ in range(tries):
        left = max(0.001, end - clock())
        try:
            async with asyncio.timeout(left + GRACE_S):
                return await ask(_with_deadline(sent, left))
        except TimeoutError:
            raise Refusal(504, "no replica answered in time") from None
        except died as error:
            log.warning("the replica that had a request has died: %s", type(error).__name__)
    raise Refusal(503, "the replica that had the request has died", 1.0)


def seconds_of(headers: Headers, default: float, most: float) -> float:
    """How long a request may take: what its header says, and never more than `most`.

    Args:
        default: of a request that tells none.
    """
    told = _told(headers)
    return default if told is None or not told > 0.0 else min(told / 1000.0, most)


def _told(headers: Headers) -> float | None:
    """The milliseconds in a request's header; NaN where it holds something else."""
    given = dict(headers).get(DEADLINE)
    try:
        return None if given is None else float(given)
    except ValueError:
        return math.nan


def _with_deadline(sent: Sent, left: float) -> Sent:
    """The same with so many seconds left; a header that is wrong stays: the replica refuses it."""
    told = _told(sent.headers)
    if told is not None and not told > 0.0:
        return sent
    own = (DEADLINE, f"{1000.0 * left:.3f}".encode())
    return sent._replace(headers=(*(h for h in sent.headers if h[0] != DEADLINE), own))


async def call(app: ASGIApp, sent: Sent) -> Reply:
    """What an application in this process answers.

    Where this is cancelled, the application is, and the request's rows leave the engine.
    """
    given, status, body = False, 500, bytearray()
    headers: Headers = ()

    async def receive() -> Message:
        nonlocal given
        if given:
            await asyncio.Event().wait()  # the client stays until this call is cancelled
        given = True
        return {"type": "http.request", "body": sent.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = tuple((name, value) for name, value in message["headers"])
        else:
            body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "query_string": sent.query,
        "root_path": "",
        "headers": list(sent.headers),
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return Reply(status, headers, bytes(body))
