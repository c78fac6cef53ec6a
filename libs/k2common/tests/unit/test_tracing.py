"""A client's trace goes on in what a service publishes for it."""

from k2common.observability.tracing import current, extract, extract_http, inject, tracer

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_of_a_request_is_that_of_its_messages() -> None:
    context = extract_http({"traceparent": TRACEPARENT})
    with tracer(__name__).start_as_current_span("request", context=context):
        later = current()
    with tracer(__name__).start_as_current_span("publish", context=later):
        headers = inject()
    ((name, value),) = headers
    assert name == "traceparent"
    assert value.decode().split("-")[1] == TRACEPARENT.split("-")[1]
    with tracer(__name__).start_as_current_span("parse", context=extract(headers)):
        assert inject() == headers


def test_without_a_trace_there_are_no_headers() -> None:
    assert inject() == []
    assert extract([("other", b"\xff")]) == {}
