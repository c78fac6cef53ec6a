"""Wires the loader together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from k2common.columnar.encode import RecordEncoder
from k2common.http.app import create_app
from k2common.iceberg.catalog import open_catalog
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import CHUNKS, MARKET_DATASETS, POSITIONS, REJECTS, STATUS, avro_schema

from csv_loader.instruments import Instruments
from csv_loader.metrics import LoaderMetrics
from csv_loader.partition import Tools
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings
from csv_loader.share import Share


@asynccontextmanager
async def build(settings: CsvLoaderSettings, runtime: Runtime) -> AsyncIterator[Service]:
    """The loader's probes and its one loop."""
    registry = SchemaRegistry(settings.registry)
    datasets = (*MARKET_DATASETS.values(), REJECTS)
    encoders: dict[str, RecordEncoder] = {}
    for dataset in datasets:
        schema = avro_schema(dataset.topic.schema)
        encoders[dataset.name] = RecordEncoder(schema, await registry.ensure(dataset.topic.subject, schema))
    blocking = Blocking(workers=2)
    catalog = await blocking.run(open_catalog, settings.iceberg)
    tools = Tools(
        settings=settings,
        encoders=Encoders(by_dataset=encoders, batch_bytes=settings.loader.batch_bytes),
        chunks=await MessageCodec.open(registry, CHUNKS),
        statuses=await MessageCodec.open(registry, STATUS),
        positions=await MessageCodec.open(registry, POSITIONS),
        instruments=Instruments(catalog, blocking=blocking),
        blocking=blocking,
        clock=runtime.clock,
        metrics=LoaderMetrics(runtime.metrics),
    )
    share = Share(tools=tools, readiness=runtime.readiness)
    app = create_app([], readiness=runtime.readiness, metrics=runtime.metrics, clock=runtime.clock)
    try:
        yield Service(app=app, loops=[lambda: share.run(runtime.stop)])
    finally:
        blocking.close()
