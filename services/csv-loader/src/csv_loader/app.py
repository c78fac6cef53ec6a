"""Wires the loader together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager

from k2common.columnar.encode import RecordEncoder
from k2common.http.app import create_app
from k2common.http.viewer import documented
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.consumer import Place
from k2common.query.instruments import Instruments
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.assignment import Assignment, Work
from k2common.runtime.blocking import Blocking
from k2common.runtime.retry import lasting
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import (
    CHUNK_PARTITIONS,
    CHUNKS,
    CLAIMS,
    MARKET_DATASETS,
    POSITIONS,
    REJECTS,
    STATUS,
    avro_schema,
)

from csv_loader.metrics import LoaderMetrics
from csv_loader.openapi import api
from csv_loader.partition import LoaderDependencies, PartitionLoader
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings

GROUP = "csv-loader"


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
    tools = LoaderDependencies(
        settings=settings,
        encoders=Encoders(by_dataset=encoders, batch_bytes=settings.loader.batch_bytes),
        claims=await MessageCodec.open(registry, CLAIMS),
        chunks=await MessageCodec.open(registry, CHUNKS),
        statuses=await MessageCodec.open(registry, STATUS),
        positions=await MessageCodec.open(registry, POSITIONS),
        undecodable=UndecodableMessages(
            settings.kafka,
            owner=f"csv-loader-undecodable-{settings.service.replica}",
            keeps={CHUNKS.name, POSITIONS.name},
            count=runtime.skipped,
            now=runtime.clock.now,
        ),
        instruments=Instruments(catalog, blocking=blocking),
        blocking=blocking,
        clock=runtime.clock,
        metrics=LoaderMetrics(runtime.metrics, now=lambda: runtime.clock.now().timestamp()),
    )

    def works(places: Set[Place]) -> Mapping[str, Work]:
        tools.metrics.partitions.set(len(places))
        for number in set(range(CHUNK_PARTITIONS)) - {number for _, number in places}:
            tools.metrics.waiting_seconds.forget(str(number))
            tools.metrics.stalled_seconds.forget(str(number))
        return {f"partition {number}": PartitionLoader(number, tools=tools).run for _, number in places}

    share = Assignment(
        settings.kafka,
        group=GROUP,
        topics=[CHUNKS.name],
        works=works,
        readiness=runtime.readiness,
        retried=runtime.retried,
    )
    app = create_app(
        documented(api),
        readiness=runtime.readiness,
        metrics=runtime.metrics,
        settings=settings.http,
        writes="admin",
        clock=runtime.clock,
    )
    try:
        yield Service(app=app, loops=[lasting("share", share.run, runtime.stop, retried=runtime.retried)])
    finally:
        await tools.isolated.close()
        blocking.close()
