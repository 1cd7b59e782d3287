"""Labels from users: {"items": [{"text", "label"}]} in, how many were taken out."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from adaptive.bundle.contents import Bundle
from adaptive.serve.bodies import read_model
from adaptive.serve.feedback import learn
from adaptive.serve.protocols.common import (
    REFUSALS,
    caller_of,
    check_count,
    json_body,
    service_of,
)
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask
from adaptive.text.redact import redact

ITEM: dict[str, Any] = {
    "type": "object",
    "required": ["text", "label"],
    "properties": {"text": {"type": "string"}, "text_pair": {"type": "string"}, "label": {}},
}


class Feedback(BaseModel):
    """Texts and what they should have been answered."""

    items: list[Any] = Field(min_length=1, json_schema_extra={"items": ITEM})
    target: str | None = Field(None, description="The certified level that they are tested for")


router = APIRouter(tags=["Feedback"])
_FULL: dict[int | str, dict[str, Any]] = {507: {"description": "No more is kept"}}


@router.post("/v1/feedback", openapi_extra=json_body(Feedback), responses={**REFUSALS, **_FULL})
async def feedback(request: Request) -> JSONResponse:
    """Keep labelled texts apart, and test the promise on them. Bad items are told by their index.

    The test takes them as a random share of the traffic: labels that were sent because an answer
    was wrong make it step back too early.
    """
    service = service_of(request)
    caller = caller_of(request, "feedback")
    caller.spend_request()
    with service.load.request():
        body = await read_model(request, Feedback, service.settings.limits)
        check_count(body.items, service)
        request.state.facts["items"] = len(body.items)
        bundle = service.deployment.bundle
        faults = {i: why for i, each in enumerate(body.items) if (why := _fault(each, bundle))}
        good = [each for i, each in enumerate(body.items) if i not in faults]
        ask = Ask([_item(each) for each in good], body.target)
        full = None
        try:
            kept = await asyncio.to_thread(
                lambda: service.quarantine.keep(_redacted(good, bundle), caller.name)
            )
        except Refusal as refusal:  # what cannot be kept can still be tested
            kept, full = 0, refusal
        labels = [each["label"] for each in good]
        tested = await learn(service, ask, labels, caller) if good else 0
        told: dict[str, Any] = {
            "kept": kept,
            "tested": tested,
            "errors": [{"index": index, "error": why} for index, why in faults.items()],
        }
        if full is not None:
            return JSONResponse({**told, "error": full.message}, full.status)
        return JSONResponse(told, 200 if good else 400)


_KEPT = ("text", "text_pair", "label")


def _item(each: dict[str, Any]) -> Any:
    return {name: each[name] for name in _KEPT[:2] if name in each}


def _redacted(items: list[dict[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """The items as they may be kept, without the personal data that the bundle does not read."""
    if not bundle.redact:
        return items
    texts = _KEPT[:2]
    return [
        {
            name: redact([value], bundle.redact)[0]
            if name in texts and isinstance(value, str)
            else value
            for name, value in each.items()
        }
        for each in items
    ]


def _fault(item: Any, bundle: Bundle) -> str | None:
    """Why an item cannot be taken, in words that quote nothing of it."""
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return "expected an object with a text and a label"
    if set(item) - set(_KEPT):
        return f"expected no other fields than {', '.join(_KEPT)}"
    cells = bundle.task.cells
    why = cells.fault(item.get("label"))
    if why is None and cells.named and not set(cells.names(item["label"])) <= set(bundle.labels):
        why = "the label is none of the model's"
    return why
