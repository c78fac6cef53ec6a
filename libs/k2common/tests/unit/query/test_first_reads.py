"""The first request that reads an upload's version, or a later one, ends its trace; no other does."""

from dataclasses import replace

import pytest
from k2common.observability.tracing import TRACEPARENT, UPLOAD_TRACE
from k2common.query import first_reads
from k2common.query.first_reads import VERSIONS_KEPT, FirstReads
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.iceberg import first_version
from k2common.versions.version import Version
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    monkeypatch.setattr(first_reads, "spans", provider.get_tracer("test"))
    return found


def headers(*numbers: int) -> list[tuple[str, bytes]]:
    """As an announcement has them: of the commit, and of the uploads that it shows."""
    uploads = [(UPLOAD_TRACE, f"00-{number:032x}-{number:016x}-01".encode()) for number in numbers]
    return [(TRACEPARENT, b"00-%s-%s-01" % (b"c" * 32, b"c" * 16)), *uploads]


def version(number: int, table: str = TRADES.table) -> Version:
    return replace(first_version(table), number=number)


def ended(exporter: InMemorySpanExporter) -> list[int]:
    """The traces that have a first read, and forget them."""
    spans = exporter.get_finished_spans()
    exporter.clear()
    assert all(span.parent is not None and span.parent.span_id == span.context.trace_id for span in spans)
    return [span.context.trace_id for span in spans]


def test_each_upload_is_first_read_once(exporter: InMemorySpanExporter) -> None:
    reads = FirstReads()
    reads.note(TRADES.table, 4, headers(1, 2))
    reads.note(TRADES.table, 5, headers(3))
    reads.read([version(3)])
    assert ended(exporter) == []
    reads.read([version(4)])
    assert ended(exporter) == [1, 2]
    reads.read([version(4), version(5)])
    assert ended(exporter) == [3]
    reads.read([version(5)])
    assert ended(exporter) == []


def test_a_later_version_shows_what_earlier_ones_have_shown(exporter: InMemorySpanExporter) -> None:
    reads = FirstReads()
    reads.note(TRADES.table, 4, headers(1))
    reads.note(TRADES.table, 5, headers(2))
    reads.read([version(9)])
    (first, _) = exporter.get_finished_spans()
    assert dict(first.attributes or {}) == {"k2.table": TRADES.table, "k2.version": 9, "k2.shown_in": 4}
    assert ended(exporter) == [1, 2]


def test_another_tables_version_reads_nothing_of_it(exporter: InMemorySpanExporter) -> None:
    reads = FirstReads()
    reads.note(TRADES.table, 4, headers(1))
    reads.read([version(9, QUOTES.table)])
    assert ended(exporter) == []


def test_announcements_without_traces_and_old_ones_are_not_kept(exporter: InMemorySpanExporter) -> None:
    reads = FirstReads()
    reads.note(TRADES.table, 1, headers())
    for number in range(2, VERSIONS_KEPT + 3):
        reads.note(TRADES.table, number, headers(number))
    reads.read([version(VERSIONS_KEPT + 3)])
    assert ended(exporter) == list(range(3, VERSIONS_KEPT + 3))
