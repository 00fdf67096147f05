"""Spans have the names of the conventions, and say what is an error. That they arrive is tested in `reliability`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from metaalign_server.serving.telemetry import Spans

CHAT = {"method": "POST", "route": "/v1/chat/completions", "request_id": "r"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[Spans]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = Spans(provider, "a-model")
    yield made
    made.close()


def ended(spans: Spans, exporter: InMemorySpanExporter, **fields: Any) -> ReadableSpan:
    spans.start("POST", {}).end(CHAT | fields)
    (span,) = exporter.get_finished_spans()
    return span


def test_an_answer(spans: Spans, exporter: InMemorySpanExporter) -> None:
    span = ended(
        spans,
        exporter,
        status=200,
        prompt_tokens=30,
        cached_tokens=16,
        output_tokens=7,
        finish_reasons=["stop", "length"],
    )
    assert span.name == "POST /v1/chat/completions"
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "metaalign.request_id": "r",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "a-model",
        "gen_ai.response.model": "a-model",
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.usage.output_tokens": 7,
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("status", "code", "failed"),
    [
        (503, "overloaded", True),
        (500, "internal_error", True),
        (429, "rate_limit_exceeded", False),
        (200, "internal_error", True),  # a stream that failed after its start
    ],
)
def test_an_error(spans: Spans, exporter: InMemorySpanExporter, status: int, code: str, failed: bool) -> None:
    span = ended(spans, exporter, status=status, error=code)
    assert span.attributes is not None
    assert span.attributes["error.type"] == code
    assert (span.status.status_code is StatusCode.ERROR) == failed
