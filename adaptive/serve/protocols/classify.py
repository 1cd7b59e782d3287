"""vLLM's classification: {"model", "input"} in, the label and all probabilities out."""

from __future__ import annotations

import secrets
import time
from typing import Any

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
from adaptive.serve.service import Ask


class Classification(BaseModel):
    """One text or many. Pairs are objects {"text", "text_pair"}."""

    model: str | None = Field(None, description="Passed over: there is one model")
    input: Any = Field(
        json_schema_extra={
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        }
    )
    target: str | None = Field(None, description="A certified level, such as agreement=0.02")


router = APIRouter(tags=["vLLM classification"])


@router.post("/v1/classify", openapi_extra=json_body(Classification), responses=REFUSALS)
async def classify(request: Request) -> JSONResponse:
    """The label of each text, and the probabilities of all labels in their order."""
    service = service_of(request)
    caller = caller_of(request, "predict")
    caller.spend_request()
    with service.load.request():
        body = await read_model(request, Classification, service.settings.limits)
        many = isinstance(body.input, list)
        ask = Ask(
            items=body.input if many else [body.input],
            target=body.target,
            deadline=deadline_of(request),
        )
        found = await answered(request, ask, caller)
        if not many:
            single_fault(found)
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return JSONResponse(
            {
                "id": f"classify-{secrets.token_hex(16)}",
                "object": "list",
                "created": int(time.time()),
                "model": service.model_name,
                "data": data(found, caller),
                "usage": {**usage, "completion_tokens": 0, "prompt_tokens_details": None},
            }
        )


def data(found: Replies, caller: Caller, first: int = 0) -> list[dict[str, Any]]:
    """An entry for each item; `first` is the number of the first."""
    probabilities = found.joined.probabilities
    assert probabilities is not None, "a server's engines give all of them"
    rows, classes = probabilities.tolist(), probabilities.shape[1]
    routing, beside = found.routing() if caller.may("routing") else None, found.beside()
    listed: list[dict[str, Any]] = []
    for index, probs in enumerate(rows):
        if index in found.errors:
            listed.append({"index": first + index, "error": found.errors[index]})
            continue
        own = {"index": first + index, "label": found.best(index), "probs": probs}
        listed.append({**own, "num_classes": classes, **beside[index]})
        if routing is not None:
            listed[-1]["routing"] = routing[index]
    return listed
