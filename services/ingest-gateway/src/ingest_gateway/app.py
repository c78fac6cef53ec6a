"""Wires the gateway together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from k2common.http.app import create_app
from k2common.http.bodies import Places
from k2common.http.viewer import documented
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.versions.hidden_files import hidden_files
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.layouts.catalogue import Catalogue
from k2common.query.instruments import Instruments
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.retry import lasting
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import CHUNKS, CLAIMS, COMMANDS, UPLOADS

from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.claims import OPEN_STATES, Claim, Journal
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.http.layout_routes import LayoutRoutes
from ingest_gateway.http.openapi import api
from ingest_gateway.http.routes import Routes
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.receipt_finalizer import Finals
from ingest_gateway.receipts.receipt_history import PastReceipts
from ingest_gateway.receipts.rejects import Rejects
from ingest_gateway.receipts.tracker import Tracker, follow
from ingest_gateway.settings import IngestGatewaySettings
from ingest_gateway.uploads.archive_retention import Keeping
from ingest_gateway.uploads.cancellation import Changes
from ingest_gateway.uploads.metric_sources import set_metric_sources
from ingest_gateway.uploads.reception import Reception
from ingest_gateway.uploads.recovery import Recovery

FOLLOWING = "topics"
UPLOADERS_READ = re.compile(r"/v1/(uploads(/[^/]+(/rejects)?)?|batches/[^/]+|layouts(/[^/]+)?)")
"""What became of uploads, and what they may name; the bytes of any upload need the scope read."""
STREAMED = ("/v1/uploads", "/v1/layouts/detect")
"""Paths whose bodies are limited by their handlers."""


@asynccontextmanager
async def build(settings: IngestGatewaySettings, runtime: Runtime) -> AsyncIterator[Service]:
    """The endpoints, and loops that publish, follow and finish."""
    gateway, replica = settings.gateway, settings.service.replica
    registry = SchemaRegistry(settings.registry)
    metrics = GatewayMetrics(runtime.metrics)
    blocking = Blocking(workers=4)
    claims = await MessageCodec.open(registry, CLAIMS)
    journal = Journal(settings.kafka, claims, clock=runtime.clock)
    try:
        catalog = await blocking.run(open_catalog, settings.iceberg)
        reader = VersionReader(catalog)
        limits = Limits(
            content_bytes=gateway.max_upload_bytes,
            line_bytes=gateway.max_line_bytes,
            reserve_bytes=gateway.spool_reserve_bytes,
        )
        spool = Spool(gateway.spool, limits=limits, blocking=blocking)
        archive = Archive(catalog, root=settings.iceberg.archive_root)
        tracker = Tracker(runtime.clock, blocked_after_seconds=gateway.blocked_after_seconds)
        publisher = Publisher(
            journal=journal,
            spool=spool,
            archive=archive,
            chunks=await MessageCodec.open(registry, CHUNKS),
            blocking=blocking,
            clock=runtime.clock,
            metrics=metrics,
            replica=replica,
            concurrent_uploads=gateway.concurrent_uploads,
            chunks_per_transaction=gateway.chunks_per_transaction,
            retried=runtime.retried,
        )

        def resume(claim: Claim) -> None:
            journal.on_read(claim)
            if claim.state not in OPEN_STATES:
                publisher.release(claim.upload.upload_id)
            elif claim.replica == replica:
                publisher.enqueue(claim)

        followers = await follow(
            tracker,
            settings=settings.kafka,
            registry=registry,
            on_claim=resume,
            files=hidden_files(catalog),
            blocking=blocking,
            undecodable=UndecodableMessages(
                settings.kafka,
                owner=f"ingest-gateway-undecodable-{replica}",
                keeps={CLAIMS.name},
                count=runtime.skipped,
                now=runtime.clock.now,
            ),
        )
        finals = Finals(
            tracker=tracker,
            journal=journal,
            codec=await MessageCodec.open(registry, UPLOADS.topic),
            clock=runtime.clock,
            metrics=metrics,
            replica=replica,
        )
        changes = Changes(
            journal=journal,
            tracker=tracker,
            publisher=publisher,
            codec=await MessageCodec.open(registry, COMMANDS),
            clock=runtime.clock,
        )
        reception = Reception(
            journal=journal,
            codec=claims,
            changes=changes,
            spool=spool,
            publisher=publisher,
            reader=reader,
            instruments=Instruments(catalog, blocking=blocking),
            blocking=blocking,
            clock=runtime.clock,
            metrics=metrics,
            replica=replica,
            bulk_bytes=gateway.bulk_bytes,
            max_columns=gateway.max_columns,
            places=Places(total=gateway.max_receiving, per_caller=gateway.max_receiving_per_caller),
        )
        recovery = Recovery(
            spool=spool,
            journal=journal,
            codec=claims,
            tracker=tracker,
            publisher=publisher,
            metrics=metrics,
        )
        set_metric_sources(
            metrics,
            spool=spool,
            publisher=publisher,
            reception=reception,
            tracker=tracker,
            clock=runtime.clock,
        )
        layouts = Catalogue.with_folder(gateway.layouts)
        routes = Routes(
            reception=reception,
            tracker=tracker,
            rejects=Rejects(catalog, reader, blocking=blocking),
            layouts=layouts,
            changes=changes,
            past=PastReceipts(catalog, reader, tracker=tracker, blocking=blocking, clock=runtime.clock),
            archive=archive,
            blocking=blocking,
            page_key=gateway.page_key.get_secret_value().encode(),
        )
        layout_routes = LayoutRoutes(layouts, blocking=blocking, clock=runtime.clock)
        app = create_app(
            [*routes.routes(), *layout_routes.routes(), *documented(api)],
            readiness=runtime.readiness,
            metrics=runtime.metrics,
            settings=settings.http,
            writes="ingest",
            writers_read=UPLOADERS_READ,
            streamed=STREAMED,
            clock=runtime.clock,
        )

        async def keep(stop: asyncio.Event) -> None:
            # Not before all uploads are known: equal bytes may have come again since.
            if gateway.archive_days is not None and await _caught_up(followers, stop):
                keeping = Keeping(
                    archive=archive,
                    tracker=tracker,
                    blocking=blocking,
                    clock=runtime.clock,
                    days=gateway.archive_days,
                )
                await keeping.run(stop)

        async def finish(stop: asyncio.Event) -> None:
            if await _caught_up(followers, stop):
                cut = any(follower.is_cut for follower in followers)
                tracker.conservation.begin(since=runtime.clock.now() if cut else None)
                await recovery.recover()
                tracker.complete = True
                runtime.readiness.ready(FOLLOWING)
            await finals.run(stop)

        runtime.readiness.waiting(FOLLOWING, "the topics are being read")
        works = {
            "publish": publisher.run,
            "finish": finish,
            "keep": keep,
            **{f"follow {n}": follower.run for n, follower in enumerate(followers)},
        }
        loops = [lasting(name, work, runtime.stop, retried=runtime.retried) for name, work in works.items()]
        yield Service(app=app, loops=loops)
    finally:
        await journal.close()
        blocking.close()


async def _caught_up(followers: Sequence[Follower], stop: asyncio.Event) -> bool:
    return all([await follower.until_caught_up(stop) for follower in followers])
