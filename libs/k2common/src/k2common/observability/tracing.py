"""Spans through the OpenTelemetry API; without an SDK in the process they cost nothing.

A trace goes from service to service as W3C trace context: in requests as HTTP headers, in Kafka as headers of
single messages (claims, chunks, statuses, announcements), never in the record batches of rows. Baggage is not
passed on. See docs/adr/0008-traces-beside-rows.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NoOpTracer, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from k2common.domain.time import EPOCH

__all__ = ["Carried", "Context", "NoOpTracer", "Span", "SpanKind", "Tracer"]

W3C = TraceContextTextMapPropagator()
UPLOAD_TRACE = "k2-upload-trace"
"""Header of an announcement: the context of an upload that its version shows, as in traceparent."""
TRACEPARENT = "traceparent"
MICROSECOND = timedelta(microseconds=1)
NAMES = ("traceparent", "tracestate")

Carried: TypeAlias = tuple[tuple[str, bytes], ...]
"""A context as the headers of a Kafka message; empty where there is no trace."""


def tracer(name: str) -> Tracer:
    """The tracer of the module `name`."""
    return trace.get_tracer(name)


def extract_http(headers: Mapping[str, str]) -> Context:
    """The context that a request carries."""
    return W3C.extract(headers, Context())


def inject() -> Carried:
    """The present span as Kafka headers."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return tuple((name, value.encode()) for name, value in carrier.items())


def carried(headers: Iterable[tuple[str, bytes]]) -> Carried:
    """Those of a message's headers that say which trace it belongs to."""
    return tuple((name, value) for name, value in headers if name in NAMES)


def extract(headers: Iterable[tuple[str, bytes]]) -> Context:
    """The context that Kafka headers carry."""
    known = {name: value.decode("ascii", "replace") for name, value in headers if name in NAMES}
    return W3C.extract(known, Context()) if known else Context()


def link_to_present() -> tuple[Link, ...]:
    """Links to the present span, for one that belongs to another trace; none where there is no span."""
    context = trace.get_current_span().get_span_context()
    return (Link(context),) if context.is_valid else ()


def present_ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of the present span, in hexadecimal; empty where there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


@contextmanager
def begun(spans: Tracer, name: str, /, **given: Any) -> Iterator[Span]:
    """The present span is a new one; `given` is what `Tracer.start_as_current_span` takes.

    It fails with the name of an error and not with its text, which may quote a row.
    """
    with spans.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False, **given
    ) as span:
        try:
            yield span
        # Whatever it is, the span says so and the error goes on.
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


@contextmanager
def joined(
    spans: Tracer,
    name: str,
    headers: Iterable[tuple[str, bytes]],
    /,
    *,
    since_ns: int | None = None,
    **attributes: Any,
) -> Iterator[Span]:
    """The present span is one of the trace that `headers` carry, linked to the span that was present before.

    It began at `since_ns`, nanoseconds since 1970, or now. Attributes are `k2.<name>`.
    """
    named = {f"k2.{key}": value for key, value in attributes.items()}
    links = link_to_present()
    with begun(
        spans, name, context=extract(headers), links=links, attributes=named, start_time=since_ns
    ) as span:
        yield span


def nanoseconds(time: datetime) -> int:
    """A time as spans have it."""
    return (time - EPOCH) // MICROSECOND * 1000
