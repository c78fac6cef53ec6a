"""Spans through the OpenTelemetry API; without an SDK in the process they cost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current

__all__ = ["Context", "current", "extract", "extract_http", "inject", "tracer"]


def tracer(name: str) -> trace.Tracer:
    """The tracer of the module `name`."""
    return trace.get_tracer(name)


def current() -> Context:
    """The present context, for work that goes on in another task."""
    return get_current()


def extract_http(headers: Mapping[str, str]) -> Context:
    """The context that a request carries (W3C trace context)."""
    return propagate.extract(headers)


def inject() -> list[tuple[str, bytes]]:
    """The present span as Kafka headers (W3C trace context)."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items()]


def extract(headers: Sequence[tuple[str, bytes]]) -> Context:
    """The context that Kafka headers carry."""
    return propagate.extract({name: value.decode("ascii", "replace") for name, value in headers})
