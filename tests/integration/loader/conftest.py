"""What a partition's work needs, on the real broker and registry."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from csv_loader.metrics import LoaderMetrics
from csv_loader.partition import LoaderDependencies
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings
from k2common.columnar.encode import RecordEncoder
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.kafka.boundary import UndecodableMessages
from k2common.provision import ProvisionSettings, provision
from k2common.query.instruments import Instruments
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import CHUNKS, CLAIMS, POSITIONS, REJECTS, STATUS, TRADES, avro_schema
from k2common.settings.load import load
from k2local.fleet import environment
from k2local.stack import LocalStack
from prometheus_client import CollectorRegistry


@pytest.fixture
async def tools(stack: LocalStack, tmp_path: Path) -> AsyncIterator[LoaderDependencies]:
    environ = environment(stack.settings.model_copy(update={"home": tmp_path}))
    await provision(load(ProvisionSettings, environ))
    settings = load(CsvLoaderSettings, {**environ, "K2_HTTP__PORT": "1"})
    registry = SchemaRegistry(settings.registry)
    encoders = {}
    for dataset in (TRADES, REJECTS):
        schema = avro_schema(dataset.topic.schema)
        encoders[dataset.name] = RecordEncoder(schema, await registry.ensure(dataset.topic.subject, schema))
    blocking = Blocking(workers=1)
    yield LoaderDependencies(
        settings=settings,
        encoders=Encoders(by_dataset=encoders, batch_bytes=100_000),
        claims=await MessageCodec.open(registry, CLAIMS),
        chunks=await MessageCodec.open(registry, CHUNKS),
        statuses=await MessageCodec.open(registry, STATUS),
        positions=await MessageCodec.open(registry, POSITIONS),
        undecodable=UndecodableMessages(settings.kafka, owner="undecodable", count=lambda _: None),
        instruments=Instruments(open_catalog(settings.iceberg), blocking=blocking),
        blocking=blocking,
        clock=SystemClock(),
        metrics=LoaderMetrics(CollectorRegistry()),
    )
    blocking.close()
