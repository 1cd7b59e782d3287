"""JSON lines both ways, for batches of any size: an item a line in, an answer a line out.

Where the body comes in pieces of no told length (`Transfer-Encoding: chunked`), answers go out
while items still come in, and no more is read while the answers are not taken: the client must do
both at once. A body of told length is read first, up to a limit, since most clients send all before
they read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adaptive.serve.bodies import gone, parse, pieces, read
from adaptive.serve.deployment import Deployment
from adaptive.serve.keys import Caller
from adaptive.serve.post import Replies
from adaptive.serve.protocols.classify import data
from adaptive.serve.protocols.common import REFUSALS, caller_of, service_of
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask, Service
from adaptive.text import streams

PIECE = 64  # items that are answered together
AHEAD = 4  # pieces in flight
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '"a text"\n{"text": "another", "text_pair": "beside it"}\n',
            }
        },
    }
}
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}
router = APIRouter(tags=["Streams"])


@router.post(
    "/v1/stream",
    openapi_extra=_BODY,
    responses={**REFUSALS, 200: {"description": "An answer a line", "content": _LINES}},
)
async def stream(
    request: Request,
    target: Annotated[str | None, Query(description="A certified level")] = None,
    probs: Annotated[bool, Query(description="Whether all probabilities are wanted")] = False,
) -> Response:
    """Answers {"index", "label", "score"} of items "text" or {"text", "text_pair"}, one a line.

    A line that is no item is answered {"index", "error"}. Where the stream cannot go on, its last
    line is {"error"} without an index.
    """
    service = service_of(request)
    caller = caller_of(request, "predict")
    caller.spend_request()
    return Lines(request, service, caller, target, probs)


class Lines(Response):
    """Reads and writes at once, which Starlette's own streams do not."""

    media_type = "application/x-ndjson"

    def __init__(
        self, request: Request, service: Service, caller: Caller, target: str | None, probs: bool
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._request, self._service, self._caller = request, service, caller
        self._target, self._probs = target, probs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        service, seconds = self._service, self._service.settings.limits.body_s

        async def write(lines: bytes, more: bool = True) -> None:
            async with asyncio.timeout(seconds):  # of a client that does not read
                await send({"type": "http.response.body", "body": lines, "more_body": more})

        # refusals up to here are told by the status, later ones by a line
        with service.load.request(), service.deployed() as deployment:
            deployment.level(self._target)
            source = await self._body()
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            with suppress(ClientDisconnect, TimeoutError):
                try:
                    async for lines in self._answers(deployment, source):
                        await write(lines)
                except Refusal as refusal:
                    await write(_line({"error": refusal.message}))
                await write(b"", more=False)

    async def _body(self) -> AsyncIterator[bytes]:
        limits = self._service.settings.limits
        if "content-length" not in self._request.headers:
            return pieces(self._request, limits.body_s)
        whole = await read(self._request, limits.stream_bytes, limits.body_s)

        async def at_once() -> AsyncIterator[bytes]:
            yield whole

        return at_once()

    async def _answers(
        self, deployment: Deployment, source: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The answers' lines, each piece when it is answered and those before it are written."""
        running: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AHEAD)
        tasks: set[asyncio.Task[bytes]] = set()

        async def take_in() -> None:
            """Items into tasks, as long as there is room; then whether the client stays."""
            limits, first, paired = self._service.settings.limits, 0, None
            try:
                async for items, faults in _pieces(source, limits.bytes, limits.depth):
                    await room.acquire()
                    paired = streams.kind_of(items) if paired is None else paired
                    work = self._piece(deployment, items, faults, first, paired)
                    tasks.add(task := asyncio.create_task(work))
                    running.put_nowait(task)
                    first += len(items)
            finally:
                self._request.state.facts["items"] = first
                running.put_nowait(None)
            await gone(self._request)
            for task in tasks:
                task.cancel()

        reader = asyncio.create_task(take_in())
        try:
            while (task := await running.get()) is not None:
                await asyncio.wait((task,))
                if task.cancelled():
                    return
                yield task.result()
                tasks.discard(task)
                room.release()
            if reader.done():
                reader.result()  # what the body ended in
        finally:
            for each in (reader, *tasks):
                each.cancel()

    async def _piece(
        self,
        deployment: Deployment,
        items: list[Any],
        faults: dict[int, str],
        first: int,
        paired: bool | None,
    ) -> bytes:
        ask = Ask(items, self._target, paired=bool(paired), in_turn=True)
        found = await self._service.answer_by(deployment, ask, self._caller)
        return b"".join(map(_line, self._lines(found, faults, first)))

    def _lines(self, found: Replies, faults: dict[int, str], first: int) -> list[dict[str, Any]]:
        lines, scores = data(found, self._caller, first), found.joined.score.tolist()
        for index, line in enumerate(lines):
            if index in faults:
                lines[index] = {"index": first + index, "error": faults[index]}
            elif "error" not in line:
                line["score"] = scores[index]
                if not self._probs:
                    del line["probs"], line["num_classes"]
        return lines


async def _pieces(
    source: AsyncIterator[bytes], most: int, depth: int
) -> AsyncIterator[tuple[list[Any], dict[int, str]]]:
    """Items of some lines each, and why lines are no JSON; in their place is None.

    What has come is not held back for more to come: a client may wait for its answers.

    Raises:
        Refusal: a line is too long.
    """
    rest = b""
    async for chunk in source:
        *whole, rest = (rest + chunk).split(b"\n")
        _check(rest, most)
        for start in range(0, len(whole), PIECE):
            found = _items(whole[start : start + PIECE], most, depth)
            if found[0]:
                yield found
    if rest.strip():
        yield _items([rest], most, depth)


def _items(lines: list[bytes], most: int, depth: int) -> tuple[list[Any], dict[int, str]]:
    """Of lines that hold anything."""
    items: list[Any] = []
    faults: dict[int, str] = {}
    for line in lines:
        _check(line, most)
        if not line.strip():
            continue
        try:
            items.append(parse(line, depth))
        except Refusal as refusal:
            faults[len(items)] = refusal.message.replace("the body", "the line")
            items.append(None)
    return items, faults


def _check(line: bytes, most: int) -> None:
    if len(line) > most:
        raise Refusal(413, f"a line has more than {most} bytes")


def _line(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
