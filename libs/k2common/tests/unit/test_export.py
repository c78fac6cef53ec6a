"""Spans reach a collector, and a collector that is unavailable holds nothing up."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from k2common.testing.collector import Collector, collecting
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# A process of its own: a tracer provider is set once for good.
PROGRAM = """
import sys
from k2common.observability.export import spans_exported
from k2common.observability.tracing import tracer
from k2common.settings.service import ObservabilitySettings

spans = tracer("before")
settings = ObservabilitySettings(otlp_endpoint=sys.argv[1] if len(sys.argv) > 1 else None)
with spans_exported(settings, service="csv-loader", replica="7"):
    with spans.start_as_current_span("parse chunk"):
        pass
print("opentelemetry.sdk" in sys.modules)
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def run(*arguments: str) -> str:
    argv = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def test_spans_come_with_the_names_of_service_and_replica(collector: Collector) -> None:
    assert run(f"{collector.endpoint}/") == "True"
    ((path, body),) = collector.received
    (told,) = ExportTraceServiceRequest.FromString(body).resource_spans
    named = {entry.key: entry.value.string_value for entry in told.resource.attributes}
    assert path == "/v1/traces"
    assert (named["service.name"], named["service.instance.id"]) == ("csv-loader", "7")
    assert [span.name for span in told.scope_spans[0].spans] == ["parse chunk"]


def test_without_an_address_nothing_is_loaded() -> None:
    assert run() == "False"


def test_a_collector_that_is_away_ends_in_time() -> None:
    assert run("http://127.0.0.1:9") == "True"
