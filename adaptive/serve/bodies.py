"""Bodies of requests, read within bytes, time and depth. Nothing of one is ever quoted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Limits

Model = TypeVar("Model", bound=BaseModel)


async def read_model(request: Request, model: type[Model], limits: Limits) -> Model:
    """The body as this model says.

    Raises:
        Refusal: too large, too slow, too deep, no JSON, or not as the model says.
    """
    return checked(parse(await read(request, limits.bytes, limits.body_s), limits.depth), model)


async def read(request: Request, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        Refusal: more bytes, or more time.
        ClientDisconnect: the client has gone.
    """
    check_length(request, most)
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                found += piece
                if len(found) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {seconds:g} seconds") from None
    return bytes(found)


def check_length(request: Request, most: int) -> None:
    """Refuse a body before it has come, if its length is told.

    Raises:
        Refusal: it is more.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and len(told) < 20 and int(told) > most:
        raise _too_large(most)


async def pieces(request: Request, seconds: float) -> AsyncIterator[bytes]:
    """The body as it comes, each piece within so many seconds.

    Raises:
        Refusal: a piece takes longer.
        ClientDisconnect: the client has gone.
    """
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Refusal(408, f"nothing came within {seconds:g} seconds") from None
        if piece is None:
            return
        yield piece


async def gone(request: Request) -> None:
    """Returns when the client has gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def parse(body: bytes, depth: int) -> Any:
    """JSON: strict, without NaN, and no deeper than this.

    Raises:
        Refusal: it is not.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep(depth) from None
    except ValueError:  # of JSON, of UTF-8, and of numbers with thousands of digits
        raise Refusal(400, "the body is no JSON in UTF-8") from None
    if _deeper(value, depth):
        raise _too_deep(depth)
    return value


def checked(value: Any, model: type[Model]) -> Model:
    """What was read, as this model says.

    Raises:
        Refusal: it is not; each fault names the field and what is expected.
    """
    if not isinstance(value, Mapping):
        raise Refusal(422, "the body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Refusal(422, _faults(error)) from None


def _faults(error: ValidationError) -> str:
    """In words, which hold names of fields and nothing of what was given."""
    told = []
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        field = str(each["loc"][0]) if each["loc"] else ""
        own = each["type"] == "value_error"
        what = each["msg"].removeprefix("Value error, ") if own else each["type"].replace("_", " ")
        told.append(f"{field}: {what}" if field else what)
    return "; ".join(told)


def _deeper(value: Any, depth: int) -> bool:
    """Whether it is nested deeper, without recursion."""
    level, containers = 0, [value]
    while containers:
        level += 1
        inner: list[Any] = []
        for each in containers:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        containers = [each for each in inner if isinstance(each, dict | list)]
        if containers and level >= depth:
            return True
    return False


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"more than {most} bytes")


def _too_deep(depth: int) -> Refusal:
    return Refusal(400, f"JSON nested deeper than {depth}")


__all__ = [
    "ClientDisconnect",
    "check_length",
    "checked",
    "gone",
    "parse",
    "pieces",
    "read",
    "read_model",
]
