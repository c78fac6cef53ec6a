"""Four services in one process with an exporter in memory; prints what was posted and all spans as JSON.

A process of its own, since a tracer provider is set once for good. On the way the gateway ends after it has
answered, the loader loses the chunks that it has parsed, and the sink ends after its commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import csv_loader.app
import httpx
import iceberg_sink.app
import ingest_gateway.app
import query_service.app
from csv_loader.partition import Batch, PartitionLoader
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.errors import TransientError
from k2common.kafka.producer import TransactionalProducer
from k2common.observability.logging import configure
from k2common.query.version_follower import VersionFollower
from k2common.registry.client import SchemaRegistry
from k2common.runtime.service import Runtime
from k2common.schemas.datasets import TRADES
from k2common.settings.load import load
from k2common.settings.service import ObservabilitySettings
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from query_service.settings import QueryServiceSettings

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, message, write

PLAN = {
    "gateway": (ingest_gateway.app.build, IngestGatewaySettings),
    "loader": (csv_loader.app.build, CsvLoaderSettings),
    "sink": (iceberg_sink.app.build, IcebergSinkSettings),
    "query": (query_service.app.build, QueryServiceSettings),
}
LIMIT_SECONDS = 200
HEADER = b"ts_event_ns,symbol,venue,price,size\n"


class Losing(PartitionLoader):
    """Loses the first batch with `upload` between parsing and publishing."""

    upload = ""
    lost = 0

    async def _publish(self, producer: TransactionalProducer, batch: Batch) -> None:
        # The log may hold chunks of others still.
        uploads = {processed.chunk.upload.upload_id for processed in batch.chunks}
        if not Losing.lost and Losing.upload in uploads:
            Losing.lost += 1
            raise TransientError("lost on the way")
        await super()._publish(producer, batch)


class Watched(VersionFollower):
    """Says when it has read all announcements."""

    caught_up = asyncio.Event()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        Watched.caught_up = self.follower.caught_up


def file_of(symbol: str) -> bytes:
    return HEADER + b"".join(
        b"%d,%s,XTST,1.5,2\n" % (1_700_000_000_000_000_000 + n, symbol.encode()) for n in range(3)
    )


async def post(gateway: httpx.AsyncClient, symbol: str, traceparent: str | None) -> str:
    headers = {"Content-Type": "text/csv", **({"traceparent": traceparent} if traceparent else {})}
    answer = await gateway.post(
        "/v1/uploads", params={"dataset": "trades"}, content=file_of(symbol), headers=headers
    )
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["data"]["upload_id"])


async def finished(gateway: httpx.AsyncClient, upload_id: str) -> None:
    while True:
        answer = await gateway.get(f"/v1/uploads/{upload_id}")
        if answer.json()["data"]["finished_at"]:
            return
        await asyncio.sleep(0.1)


def is_read(spans: InMemorySpanExporter, upload_id: str) -> bool:
    """Whether the trace in which the upload was settled has a first read."""
    found = spans.get_finished_spans()
    settled = {
        span.context.trace_id
        for span in found
        if span.name == "settle upload" and (span.attributes or {}).get("k2.upload_id") == upload_id
    }
    return any(span.name == "first read" and span.context.trace_id in settled for span in found)


async def first_read(
    query: httpx.AsyncClient, symbol: str, spans: InMemorySpanExporter, upload_id: str
) -> None:
    """Ask until the upload's first read is there; the announcement may come a moment after the receipt."""
    while not is_read(spans, upload_id):
        answer = await query.get("/v1/trades", params={"symbols": symbol, "start": "2023-11-14"})
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.05)


async def poison(settings: IcebergSinkSettings, text: str) -> None:
    """Messages that hold `text` and are no records, among one that is."""
    registry = SchemaRegistry(settings.registry)
    schema_id = await registry.ensure(TRADES.topic.subject, SCHEMA)
    whole = message("POISON", 2, schema_id=schema_id, symbol=text)
    values = [text.encode(), whole[:-3] + b"\xff" * 3, b"\x00\x00\x00\x00\x63" + text.encode(), whole]
    await write(settings.kafka, settings.registry, "POISON", values, partition=1)


async def scenario(spans: InMemorySpanExporter, first: str, again: str, text: str) -> dict[str, str]:
    found = {name: (build, load(kind, os.environ)) for name, (build, kind) in PLAN.items()}
    await poison(load(IcebergSinkSettings, os.environ), text)
    # The gateway claims and ends: none of its loops has run.
    build, settings = found["gateway"]
    async with build(settings, Runtime()) as service:
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://k2") as gateway:
            one = await post(gateway, "TRACED", first)
    Losing.upload = one
    csv_loader.app.PartitionLoader = Losing  # type: ignore[misc]
    query_service.app.VersionFollower = Watched  # type: ignore[misc]
    async with AsyncExitStack() as opened:
        query = await opened.enter_async_context(running(*found["query"]))
        await Watched.caught_up.wait()
        gateway = await opened.enter_async_context(running(*found["gateway"]))
        await opened.enter_async_context(running(*found["loader"]))
        async with running(*found["sink"]):
            await finished(gateway, one)
        await first_read(query, "TRACED", spans, one)
        # Another sink reads the same statuses again; the same file comes again in another trace.
        async with running(*found["sink"]):
            assert await post(gateway, "TRACED", again) == one
            two = await post(gateway, "BEGUN", None)
            await finished(gateway, two)
        await first_read(query, "BEGUN", spans, two)
    return {"one": one, "two": two}


def told(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else None,
        "trace": trace.format_trace_id(span.context.trace_id),
        "id": trace.format_span_id(span.context.span_id),
        "parent": trace.format_span_id(span.parent.span_id) if span.parent else None,
        "links": [trace.format_span_id(link.context.span_id) for link in span.links],
        "attributes": dict(span.attributes or {}),
    }


async def main(arguments: Sequence[str]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    configure(ObservabilitySettings(), service="all", replica="0")
    async with asyncio.timeout(LIMIT_SECONDS):
        uploads = await scenario(exporter, *arguments)
    spans = [told(span) for span in exporter.get_finished_spans()]
    sys.stdout.write(json.dumps({"lost": Losing.lost, "uploads": uploads, "spans": spans}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
