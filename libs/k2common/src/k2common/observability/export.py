"""Spans to a collector, by OTLP over HTTP; without an address there is no SDK in the process and no cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from k2common.settings.loopback import is_loopback
from k2common.settings.service import ObservabilitySettings


@contextmanager
def spans_exported(settings: ObservabilitySettings, *, service: str, replica: str) -> Iterator[None]:
    """Send the spans of this process until the end; what cannot be sent is dropped, never waited for."""
    if settings.otlp_endpoint is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from requests import Session  # noqa: PLC0415

    named = {"service.namespace": "k2", "service.name": service, "service.instance.id": replica}
    provider = TracerProvider(resource=Resource.create(named))
    address = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
    session = Session()
    session.trust_env = not is_loopback(address)
    exporter = OTLPSpanExporter(endpoint=address, timeout=5, session=session)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
