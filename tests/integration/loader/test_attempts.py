"""A chunk that ends its parser is tried twice, then parsed apart: its upload fails, the next one goes in."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from csv_loader.metrics import LoaderMetrics
from csv_loader.partition import PartitionLoader, Tools
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings
from k2common.columnar.encode import RecordEncoder
from k2common.iceberg.catalog import open_catalog
from k2common.kafka.consumer import MessageReader
from k2common.kafka.positions import last_record
from k2common.kafka.producer import TransactionalProducer
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.provision import ProvisionSettings, provision
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.runtime.instruments import Instruments
from k2common.schemas.datasets import CHUNKS, POSITIONS, REJECTS, STATUS, TRADES, avro_schema
from k2common.settings.load import load
from k2local.fleet import environment
from k2local.stack import LocalStack
from prometheus_client import CollectorRegistry
from ulid import ULID

PARTITION = 1
LIMIT_SECONDS = 60


@pytest.fixture
async def tools(stack: LocalStack, tmp_path: Path) -> AsyncIterator[Tools]:
    environ = environment(stack.settings.model_copy(update={"home": tmp_path}))
    await provision(load(ProvisionSettings, environ))
    settings = load(CsvLoaderSettings, {**environ, "K2_HTTP__PORT": "1"})
    registry = SchemaRegistry(settings.registry)
    encoders = {}
    for dataset in (TRADES, REJECTS):
        schema = avro_schema(dataset.topic.schema)
        encoders[dataset.name] = RecordEncoder(schema, await registry.ensure(dataset.topic.subject, schema))
    blocking = Blocking(workers=1)
    yield Tools(
        settings=settings,
        encoders=Encoders(by_dataset=encoders, batch_bytes=100_000),
        chunks=await MessageCodec.open(registry, CHUNKS),
        statuses=await MessageCodec.open(registry, STATUS),
        positions=await MessageCodec.open(registry, POSITIONS),
        instruments=Instruments(open_catalog(settings.iceberg), blocking=blocking),
        blocking=blocking,
        clock=SystemClock(),
        metrics=LoaderMetrics(CollectorRegistry()),
    )
    blocking.close()


def chunk(upload_id: str, dataset: str) -> dict[str, Any]:
    payload = b"1700000000000000000,A,X,1,1\n"
    upload = UploadSpec(
        upload_id=upload_id,
        dataset=dataset,
        layout="k2",
        layout_json=layout_named("k2", dataset="trades").canonical_json,
        source="s",
        bytes=len(payload),
        sha256="",
        received_at=datetime.now(UTC),
    )
    return {
        "upload": upload.to_avro(),
        "index": 0,
        "terminal": False,
        "cancelled": False,
        "first_line": 2,
        "first_byte": 40,
        "header": "ts_event_ns,symbol,venue,price,size",
        "length": len(payload),
        "payload": pa.compress(payload, codec="zstd", asbytes=True),
    }


async def attempts(tools: Tools) -> int:
    record = await last_record(tools.settings.kafka, POSITIONS.name, PARTITION)
    return int((await tools.positions.decode(record.value))["attempts"])


async def statuses_of(tools: Tools, uploads: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    places = {(STATUS.name, partition): None for partition in range(STATUS.partitions)}
    async with MessageReader(tools.settings.kafka, places) as reader:
        while set(found) != set(uploads):
            for records in (await reader.fetch(limit=500, wait_seconds=0.2)).values():
                for record in records:
                    status = await tools.statuses.decode(record.value)
                    if status["upload_id"] in uploads:
                        found[status["upload_id"]] = status
    return found


async def test_two_attempts_and_then_apart(tools: Tools) -> None:
    bad, good = str(ULID()), str(ULID())
    async with (
        TransactionalProducer(tools.settings.kafka, "test-chunks") as producer,
        producer.transaction() as work,
    ):
        # No loader knows such a dataset: its parser ends with an error that nobody expects.
        for upload_id, dataset in ((bad, "nonsense"), (good, "trades")):
            value = tools.chunks.encode(chunk(upload_id, dataset))
            await work.send(CHUNKS.name, key=upload_id.encode(), value=value, partition=PARTITION)
    async with asyncio.timeout(LIMIT_SECONDS):
        for number in (1, 2):
            with pytest.raises(KeyError, match="nonsense"):
                await PartitionLoader(PARTITION, tools=tools).run(asyncio.Event())
            assert await attempts(tools) == number
        stop = asyncio.Event()
        work_apart = asyncio.create_task(PartitionLoader(PARTITION, tools=tools).run(stop))
        found = await statuses_of(tools, [bad, good])
        stop.set()
        await work_apart
    assert (found[bad]["failure"], found[bad]["rows_accepted"]) == ("CHUNK_UNPARSEABLE", 0)
    assert (found[good]["failure"], found[good]["rows_accepted"]) == (None, 1)
