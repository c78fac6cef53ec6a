"""A client's trace goes on in what a service publishes for it; without an SDK nothing else happens."""

from datetime import UTC, datetime

import pytest
from k2common.observability.tracing import (
    carried,
    extract,
    extract_http,
    inject,
    joined,
    nanoseconds,
    present_ids,
    tracer,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
spans = tracer(__name__)


def test_the_trace_of_a_request_is_that_of_its_messages() -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "user=7"}
    with spans.start_as_current_span("request", context=extract_http(headers)):
        told = inject()
    assert told == (("traceparent", TRACEPARENT.encode()), ("tracestate", b"a=1"))
    with joined(spans, "parse", told):
        assert inject() == told


def test_of_a_messages_headers_only_the_trace_is_kept() -> None:
    headers = [("traceparent", TRACEPARENT.encode()), ("k2-epoch", b"\xff")]
    assert carried(headers) == (("traceparent", TRACEPARENT.encode()),)


def test_without_a_trace_there_are_no_headers_and_no_ids() -> None:
    assert inject() == ()
    assert present_ids() == {}
    assert extract([("other", b"\xff")]) == {}
    assert extract([("traceparent", b"\xff")]) == {}


def test_a_span_has_the_ids_that_the_log_names() -> None:
    with joined(spans, "parse", [("traceparent", TRACEPARENT.encode())]):
        assert present_ids() == {"trace_id": TRACE, "span_id": SPAN}


def test_another_trace_is_not_taken_for_the_parent() -> None:
    with joined(spans, "request", [("traceparent", TRACEPARENT.encode())]), joined(spans, "publish", ()):
        assert inject() == ()


def test_times_are_nanoseconds() -> None:
    assert nanoseconds(datetime(1970, 1, 1, 0, 0, 1, 5, UTC)) == 1_000_005_000


def test_a_span_that_fails_names_the_error_and_does_not_quote_it() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.raises(ValueError, match="ROW"), joined(provider.get_tracer("test"), "parse", (), rows=1):
        raise ValueError("a ROW that is no number")
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert (span.events, dict(span.attributes or {})) == ((), {"k2.rows": 1})
