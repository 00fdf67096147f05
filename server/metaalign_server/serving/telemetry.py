"""OpenTelemetry spans, one per request, if the standard environment variables enable them.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) enables them; the other `OTEL_*` variables have
their standard meaning. Attributes are names, counts and hashes; never a prompt, a preference, an answer or a key.

Names are those of OpenTelemetry's semantic conventions for HTTP servers and generative AI, and `metaalign.*`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from metaalign_server.outages import Dependency

__all__ = ["Spans", "start_telemetry"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OPERATIONS = {
    "/v1/align": "chat",
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
}
_ATTRIBUTES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "request_id": "metaalign.request_id",
    "tenant": "metaalign.tenant",
    "spec": "metaalign.spec",
    "tier_tokens": "metaalign.tier_tokens",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "error": "error.type",
}


class Spans:
    """Creates spans; see `start_telemetry`."""

    def __init__(self, provider: Any, model: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._model = model
        self._tracer = provider.get_tracer("metaalign", version("metaalign"))
        self._propagator = TraceContextTextMapPropagator()

    def start(self, method: str, headers: Mapping[bytes, bytes]) -> _Span:
        """Start a span, which continues the client's trace if it sends one."""
        from opentelemetry.trace import SpanKind

        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        context = self._propagator.extract(carrier)
        return _Span(self._tracer.start_span(method, context, SpanKind.SERVER), self._model)

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()


class _Span:
    def __init__(self, span: Any, model: str) -> None:
        self._span = span
        self._model = model

    def end(self, fields: Mapping[str, Any]) -> None:
        """End the span with the fields of the access log."""
        from opentelemetry.trace import StatusCode

        span, route = self._span, str(fields["route"])
        span.update_name(f"{fields['method']} {route}")
        for name, attribute in _ATTRIBUTES.items():
            if name in fields:
                span.set_attribute(attribute, fields[name])
        if route in _OPERATIONS:
            span.set_attribute("gen_ai.operation.name", _OPERATIONS[route])
            span.set_attribute("gen_ai.provider.name", "vllm")
            span.set_attribute("gen_ai.request.model", self._model)
            if fields["status"] == 200:
                span.set_attribute("gen_ai.response.model", self._model)
        # By the conventions a 4xx is the client's failure; with a 2xx, a stream has failed after its start.
        if fields["status"] >= 500 or ("error" in fields and fields["status"] < 400):
            span.set_status(StatusCode.ERROR)
        span.end()


def start_telemetry(model: str) -> Spans | None:
    """Return spans for the endpoint in the environment, or None if it names none."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    class Exporter(OTLPSpanExporter):
        """Reports an outage of the collector in our way; its own would be several lines for each batch."""

        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            result = super().export(spans)
            if result is SpanExportResult.SUCCESS:
                collector.answered()
            else:
                collector.missed(len(spans))
                collector.away("export failed")
            return result

    collector = Dependency("trace_collector", "spans are lost")
    for talkative in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "metaalign-server"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(Exporter()))
    return Spans(provider, model)
