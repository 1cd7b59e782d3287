"""Spans of requests and stages, with nothing of what was sent; off by default."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("opentelemetry.sdk", reason="needs the extra `traces`")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tiny_server import TEXTS, Served, run

from adaptive.bundle.contents import Bundle
from adaptive.serve import service
from adaptive.serve.traces import Traces

CANARY = "canary8471"
CALLER = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_has_a_span_with_its_stages_in_it_and_no_text(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(service, "make_traces", lambda wanted: Traces(tracer if wanted else None))

    async def work(server: Served) -> None:
        headers = {
            "traceparent": f"00-{CALLER}-b7ad6b7169203331-01",
            "tracestate": f"of={CANARY}",
            "baggage": f"text={CANARY}",
        }
        body = {"inputs": [CANARY, *TEXTS], "parameters": {"target": CANARY}}
        assert (await server.post(f"/?{CANARY}", body, headers=headers)).status_code == 400
        body = {"inputs": [CANARY, *TEXTS]}
        assert (await server.post("/", body, headers=headers)).status_code == 200
        assert (await server.client.get(f"/{CANARY}")).status_code == 404

    run(tiny_cascade, work, traces=True)
    spans = {each.name: each for each in kept.get_finished_spans()}
    assert {"POST /", "GET unknown", "pre", "engine", "post"} <= set(spans)
    request = spans["POST /"]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["adaptive.items"] == 1 + len(TEXTS)
    assert f"{request.context.trace_id:032x}" == CALLER
    for name in ("pre", "engine", "post"):
        assert spans[name].parent.span_id == request.context.span_id
    assert CANARY not in "".join(each.to_json() for each in kept.get_finished_spans())


def test_there_are_no_spans_unless_the_settings_say_so(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        assert (await server.post("/", {"inputs": TEXTS})).status_code == 200
        assert server.service.metrics.traces.tracer is None

    run(tiny_cascade, work)
