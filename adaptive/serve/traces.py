"""OpenTelemetry spans: one for each request, and one for each of its stages (extra `traces`).

Spans hold names of routes and stages, numbers and the key's name: nothing of what was sent. Of the
caller's own trace its numbers alone are taken (`traceparent`), not what it may say besides.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.trace import Span, Tracer, TracerProvider

NAME = "adaptive.serve"
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class Traces:
    """Makes spans, or nothing where they are switched off."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self.tracer = tracer

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Span, Token[Any]] | None:
        """The span of a request, in which its stages' spans lie; None where there are none."""
        if self.tracer is None:
            return None
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        caller = {"traceparent": dict(headers).get(b"traceparent", b"").decode("latin-1")}
        above = TraceContextTextMapPropagator().extract(caller)
        span = self.tracer.start_span("request", above, trace.SpanKind.SERVER)
        return span, context.attach(trace.set_span_in_context(span))

    def end(
        self,
        begun: tuple[Span, Token[Any]],
        method: str,
        route: str,
        status: int,
        facts: Mapping[str, Any],
    ) -> None:
        """The request is answered; `facts` are those of its log line."""
        from opentelemetry import context, trace

        span, token = begun
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                **{f"adaptive.{name}": value for name, value in facts.items()},
            }
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        context.detach(token)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The span of a stage. What is raised in it is not told: messages may quote texts."""
        if self.tracer is None:
            yield
            return
        with self.tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ):
            yield


def make_traces(wanted: bool) -> Traces:
    """What the settings ask for.

    Spans go to the provider that the process has (`opentelemetry-instrument` sets one), else by
    OTLP to where the standard variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`).

    Raises:
        ConfigError: the extra is not installed.
    """
    if not wanted:
        return Traces()
    if importlib.util.find_spec("opentelemetry") is None:
        raise ConfigError("traces need opentelemetry: pip install 'adaptive-cascade[traces]'")
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = _exporting()
        trace.set_tracer_provider(provider)
    return Traces(provider.get_tracer(NAME))


def _exporting() -> TracerProvider:
    """A provider that sends spans by OTLP, in a thread of its own."""
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        exporter = importlib.import_module(EXPORTER)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"traces need {error.name}: pip install 'adaptive-cascade[traces]'"
        ) from None
    provider: TracerProvider = sdk.TracerProvider()
    provider.add_span_processor(  # type: ignore[attr-defined]
        export.BatchSpanProcessor(exporter.OTLPSpanExporter())
    )
    return provider
