"""Hugging Face's inference protocol: {"inputs", "parameters"} in, labels and scores out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from adaptive.serve.bodies import read_model
from adaptive.serve.keys import Caller
from adaptive.serve.post import Replies
from adaptive.serve.protocols.common import (
    REFUSALS,
    answered,
    caller_of,
    deadline_of,
    json_body,
    service_of,
    single_fault,
)
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask, Service

Overflow = Literal["truncate", "error", "windows"]
Text = dict[str, Any] | str


class Parameters(BaseModel):
    """Of the pipeline's call; others are passed over, as in the original."""

    top_k: Annotated[int, Field(strict=True, ge=1)] | None = None
    truncation: bool | Overflow | None = None
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    target: str | None = Field(None, description="A certified level, such as agreement=0.02")


class Inference(BaseModel):
    """One item or many. An item is a text or {"text", "text_pair"}."""

    inputs: Any = Field(
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {"type": "object"},
                {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}},
            ]
        }
    )
    parameters: Parameters | None = None


router = APIRouter(tags=["Hugging Face inference"])
_OPEN = json_body(Inference)


@router.post("/", openapi_extra=_OPEN, responses=REFUSALS)
async def infer(request: Request) -> JSONResponse:
    """Labels and scores of one item, or of each item of a list."""
    return await _infer(request)


@router.post("/models/{name:path}", openapi_extra=_OPEN, responses=REFUSALS)
async def infer_by_name(request: Request, name: str) -> JSONResponse:
    """The same at the model's own address; 404 for any other."""
    service = service_of(request)
    if name != service.model_name:
        raise Refusal(404, "no such model")
    return await _infer(request)


async def _infer(request: Request) -> JSONResponse:
    service = service_of(request)
    caller = caller_of(request, "predict")
    caller.spend_request()
    with service.load.request():
        body = await read_model(request, Inference, service.settings.limits)
        chosen = body.parameters or Parameters()
        many = isinstance(body.inputs, list)
        cut = chosen.truncation
        ask = Ask(
            items=body.inputs if many else [body.inputs],
            target=chosen.target,
            overflow=("truncate" if cut else "error") if isinstance(cut, bool) else cut,
            function=_function(service, chosen.function_to_apply),
            deadline=deadline_of(request),
        )
        found = await answered(request, ask, caller)
        if many:
            return JSONResponse(_listed(found, chosen.top_k, caller))
        single_fault(found)
        return JSONResponse(_listed(found, chosen.top_k, caller)[0])


def _function(service: Service, name: str | None) -> str | None:
    """The name of what is done to scores, which these answers' kind of score has."""
    try:
        service.deployment.bundle.task.function(name)
    except ValueError as error:
        raise Refusal(422, f"parameters: {error}") from None
    return name


def _listed(found: Replies, top_k: int | None, caller: Caller) -> list[Any]:
    """For each item its labels, best first, and its routing if the caller may see it."""
    labels: list[Any] = list(found.labels(top_k))
    if caller.may("routing"):
        for own, routing in zip(labels, found.routing(), strict=True):
            if own:  # once, beside the best label: it is the item's, not the label's
                own[0]["routing"] = routing
    return [
        {"error": found.errors[index]} if own is None else own for index, own in enumerate(labels)
    ]
