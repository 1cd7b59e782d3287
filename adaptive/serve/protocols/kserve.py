"""KServe's Open Inference Protocol, version 2. Tensors come as JSON or in Triton's binary form.

Answers are JSON, which clients of the binary form read as well.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, field_validator

import adaptive
from adaptive.serve.bodies import checked, parse, read
from adaptive.serve.keys import Caller
from adaptive.serve.post import Replies
from adaptive.serve.protocols.common import (
    REFUSALS,
    answered,
    caller_of,
    deadline_of,
    json_body,
    service_of,
)
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask, Service
from adaptive.serve.settings import Limits
from adaptive.text.inputs import fault

INPUTS = ("text", "text_pair")
BINARY = "Inference-Header-Content-Length"
Size = Annotated[int, Field(ge=0)]


class Tensor(BaseModel):
    """`text` or, beside it, `text_pair`."""

    name: str
    shape: Annotated[list[Size], Field(min_length=1, max_length=2)]
    datatype: str = Field(description="BYTES")
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data_size: bytes of this tensor behind the JSON, in place of data"
    )


class Wanted(BaseModel):
    """An output: label, score, probabilities or routing."""

    name: str


class Infer(BaseModel):
    """A batch of texts."""

    id: str | None = None
    parameters: dict[str, Any] | None = Field(
        None, description="target: a certified level, such as agreement=0.02"
    )
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=2)]
    outputs: list[Wanted] | None = None

    @field_validator("id")
    @classmethod
    def _sendable(cls, id: str | None) -> str | None:
        if id is not None and fault(id):
            raise ValueError("expected text without lone surrogates, as it is sent back")
        return id


router = APIRouter(tags=["Open Inference Protocol"])


@router.get("/v2")
async def server() -> dict[str, Any]:
    """What this is."""
    return {
        "name": "adaptive",
        "version": adaptive.__version__,
        "extensions": ["binary_tensor_data"],
    }


@router.get("/v2/health/live", responses=REFUSALS)
async def live(request: Request) -> JSONResponse:
    """Whether the process is in order."""
    fine = not service_of(request).hung
    return JSONResponse({"live": fine}, 200 if fine else 503)


@router.get("/v2/health/ready", responses=REFUSALS)
async def ready(request: Request) -> JSONResponse:
    """Whether it answers."""
    fine = service_of(request).state in ("ready", "degraded")
    return JSONResponse({"ready": fine}, 200 if fine else 503)


@router.get("/v2/models/{name}", responses=REFUSALS)
@router.get("/v2/models/{name}/versions/{version}", responses=REFUSALS)
async def model(request: Request, name: str) -> dict[str, Any]:
    """The model's inputs and outputs."""
    service = _named(request, name)
    bundle = service.deployment.bundle
    outputs: list[tuple[str, str, list[int]]] = [
        ("label", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("probabilities", "FP32", [-1, len(bundle.labels)]),
        ("routing", "BYTES", [-1]),
    ]
    return {
        "name": name,
        "versions": ["1"],
        "platform": "adaptive",
        "inputs": [{"name": each, "datatype": "BYTES", "shape": [-1]} for each in INPUTS],
        "outputs": [{"name": n, "datatype": kind, "shape": shape} for n, kind, shape in outputs],
    }


@router.get("/v2/models/{name}/ready", responses=REFUSALS)
@router.get("/v2/models/{name}/versions/{version}/ready", responses=REFUSALS)
async def model_ready(request: Request, name: str) -> JSONResponse:
    """Whether the model answers."""
    fine = _named(request, name).state in ("ready", "degraded")
    return JSONResponse({"name": name, "ready": fine}, 200 if fine else 503)


_OPEN = json_body(Infer)


@router.post("/v2/models/{name}/infer", openapi_extra=_OPEN, responses=REFUSALS)
@router.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=_OPEN, responses=REFUSALS)
async def infer(request: Request, name: str) -> JSONResponse:
    """The label, the score and all probabilities of each text."""
    service = service_of(request)
    caller = caller_of(request, "predict")
    _named(request, name)
    caller.spend_request()
    with service.load.request():
        body, behind = await _read(request, service.settings.limits)
        target = (body.parameters or {}).get("target")
        if target is not None and not isinstance(target, str):
            raise Refusal(422, "parameters.target: expected text")
        ask = Ask(items=_items(body.inputs, behind), target=target, deadline=deadline_of(request))
        found = await answered(request, ask, caller)
        outputs = _outputs(found, caller)
        if body.outputs:
            wanted = [each.name for each in body.outputs]
            if not set(wanted) <= outputs.keys() | {"routing"}:
                raise Refusal(400, f"outputs: known are {', '.join(outputs)}")
            outputs = {n: each for n, each in outputs.items() if n in wanted or n == "error"}
        answer = {"model_name": name, "model_version": "1", "outputs": list(outputs.values())}
        return JSONResponse(answer if body.id is None else {**answer, "id": body.id})


def _named(request: Request, name: str) -> Service:
    service = service_of(request)
    if name != service.model_name:
        raise Refusal(404, "no such model")
    return service


async def _read(request: Request, limits: Limits) -> tuple[Infer, bytes]:
    """The JSON, and what is behind it.

    Raises:
        Refusal: as `adaptive.serve.bodies.read_model`, or the JSON's length is none.
    """
    body = await read(request, limits.bytes, limits.body_s)
    size = len(body)
    given = request.headers.get(BINARY)
    if given is not None:
        if not given.isdecimal() or len(given) > 9 or int(given) > size:
            raise Refusal(400, f"{BINARY}: expected the bytes of the JSON, {size} at most")
        size = int(given)
    return checked(parse(body[:size], limits.depth), Infer), body[size:]


def _texts(behind: bytes) -> list[bytes | str]:
    """Texts in binary form, each behind its length in 4 bytes; of no UTF-8 the bytes.

    Raises:
        Refusal: a length is more than there is.
    """
    found: list[bytes | str] = []
    at = 0
    while at < len(behind):
        start = at + 4
        at = start + int.from_bytes(behind[at:start], "little")
        if start > len(behind) or at > len(behind):
            raise Refusal(400, "inputs: a text in binary form is longer than what is there")
        text = behind[start:at]
        try:
            found.append(text.decode())
        except UnicodeDecodeError:
            found.append(text)  # refused by its place, as what it is
    return found


def _items(tensors: list[Tensor], behind: bytes) -> list[Any]:
    """Texts, or pairs of them.

    Args:
        behind: tensors in binary form, one behind the other.

    Raises:
        Refusal: a tensor has another name, type or shape.
    """
    columns: dict[str, list[Any]] = {}
    for each in tensors:
        if each.name not in INPUTS or each.name in columns:
            raise Refusal(400, f"inputs: expected each of {', '.join(INPUTS)} once at most")
        if each.datatype != "BYTES":
            raise Refusal(400, f"inputs: {each.name} must be of datatype BYTES")
        binary = (each.parameters or {}).get("binary_data_size")
        if each.data is not None:
            flat = [one for row in each.data for one in (row if isinstance(row, list) else [row])]
        elif type(binary) is int and 0 <= binary <= len(behind):
            flat, behind = _texts(behind[:binary]), behind[binary:]
        else:
            raise Refusal(400, f"inputs: {each.name} has neither data nor a binary_data_size")
        size = each.shape[0] * (each.shape[1] if len(each.shape) == 2 else 1)
        if size != len(flat) or (len(each.shape) == 2 and each.shape[1] != 1):
            raise Refusal(
                400, f"inputs: {each.name} holds {len(flat)} texts; expected shape [n] or [n, 1]"
            )
        columns[each.name] = flat
    if "text" not in columns:
        raise Refusal(400, "inputs: there is no text")
    if "text_pair" not in columns:
        return columns["text"]
    if len(columns["text"]) != len(columns["text_pair"]):
        raise Refusal(400, "inputs: text and text_pair must be of one shape")
    return list(zip(columns["text"], columns["text_pair"], strict=True))


def _outputs(found: Replies, caller: Caller) -> dict[str, dict[str, Any]]:
    """Tensors by name; items without an answer have an empty label, and tell why in `error`."""
    joined, n = found.joined, len(found)
    assert joined.probabilities is not None
    labels = ["" if i in found.errors else found.best(i) or "" for i in range(n)]
    tensors: dict[str, tuple[str, list[int], list[Any]]] = {
        "label": ("BYTES", [n], labels),
        "score": ("FP32", [n], joined.score.tolist()),
        "probabilities": (
            "FP32",
            list(joined.probabilities.shape),
            joined.probabilities.ravel().tolist(),
        ),
    }
    for name in found.beside()[0] if n else ():
        own = [json.dumps(each[name]) for each in found.beside()]
        tensors[name] = ("BYTES", [n], own)
    if caller.may("routing"):
        tensors["routing"] = ("BYTES", [n], [json.dumps(each) for each in found.routing()])
    if found.errors:
        tensors["error"] = ("BYTES", [n], [found.errors.get(index, "") for index in range(n)])
    return {
        name: {"name": name, "datatype": kind, "shape": shape, "data": data}
        for name, (kind, shape, data) in tensors.items()
    }
