"""A setting alone makes a service send its spans to a collector."""

import signal
from pathlib import Path

import httpx
from k2common.testing.collector import collecting
from k2local.ports import free_port
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.runtime.test_service import await_live, environment, start

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_spans_of_requests_reach_the_collector_and_probes_have_none(tmp_path: Path) -> None:
    port = free_port()
    with collecting(free_port()) as collector:
        endpoint = {"K2_OBSERVABILITY__OTLP_ENDPOINT": collector.endpoint}
        with start(tmp_path, "good", {**environment(port), **endpoint}) as process:
            await_live(port, process)
            while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
                continue
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-ID": "mine"}
            httpx.get(f"http://127.0.0.1:{port}/nowhere", headers=headers)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0
    told = [ExportTraceServiceRequest.FromString(body) for _, body in collector.received]
    (of_service,) = (of_service for one in told for of_service in one.resource_spans)
    named = {entry.key: entry.value.string_value for entry in of_service.resource.attributes}
    assert (named["service.namespace"], named["service.name"]) == ("k2", "example")
    (span,) = (span for scope in of_service.scope_spans for span in scope.spans)
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("http request", TRACE, SPAN)
    attributes = {entry.key: entry.value for entry in span.attributes}
    assert attributes["http.response.status_code"].int_value == 404
    assert attributes["k2.request_id"].string_value == "mine"
