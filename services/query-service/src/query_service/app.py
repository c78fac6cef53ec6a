"""Wires the query service together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from k2common.engine.budget import MemoryBudget
from k2common.engine.connection import Engine
from k2common.http.app import install
from k2common.http.compression import install_compression
from k2common.http.queries import install_query_problems
from k2common.http.streaming import Attended
from k2common.http.tokens import derive_key
from k2common.http.viewer import documented
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.kafka.boundary import UndecodableMessages
from k2common.query.first_reads import FirstReads
from k2common.query.queries import Queries
from k2common.query.query_metrics import QueriesMetrics
from k2common.query.sandbox import Sandbox
from k2common.query.version_follower import VersionFollower
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.fault_metrics import FaultMetrics
from k2common.runtime.retry import lasting
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import COMMITS, VERSIONED_TABLES
from k2common.settings.service import HttpSettings

from query_service.answers.answer_context import AnswerDependencies
from query_service.answers.documentation import READING, problems
from query_service.answers.page_tokens import PageTokens
from query_service.answers.planning import Planner
from query_service.answers.validation import install_validation, refuse_unknown
from query_service.bars.routes import bars_routes
from query_service.catalogue.routes import datasets_routes
from query_service.citations.in_process_client import Rerun
from query_service.citations.routes import citations_routes
from query_service.gaps.routes import gap_routes
from query_service.joins.routes import joins_routes
from query_service.metrics import QueryMetrics
from query_service.openapi import DocumentedApi
from query_service.provenance.routes import provenance_routes
from query_service.reference.routes import reference_routes
from query_service.routes import routes
from query_service.settings import QueryServiceSettings, QuerySettings
from query_service.sql.routes import sql_routes
from query_service.summary.routes import summary_routes
from query_service.ticks.routes import rows_routes

DESCRIPTION = (
    "Trades, quotes and reference data. Every answer names the version that it was read from, and can be "
    "asked for again as of it."
)

UNTOLD: TelemetryConfig = {"tracing": False, "operation_spans": False, "metrics": False, "logs": False}
"""The framework's own spans would name probes and parameters, and quote errors."""


@asynccontextmanager
async def build(settings: QueryServiceSettings, runtime: Runtime) -> AsyncIterator[Service]:
    """The endpoints, and loops that keep the versions up to date."""
    blocking = Blocking(workers=4)
    budget = MemoryBudget(settings.engine.total_memory_megabytes)
    sandbox = Sandbox(settings.sandbox, warehouse=settings.iceberg, budget=budget)
    engine = Engine(settings.engine, warehouse=settings.iceberg, budget=budget)
    queries = Queries(engine, settings.engine, metrics=QueriesMetrics(runtime.metrics))
    metrics = QueryMetrics(runtime.metrics)
    try:
        registry = SchemaRegistry(settings.registry)
        catalog = await blocking.run(open_catalog, settings.iceberg)
        verifier = FaultMetrics(runtime.metrics).verifier(settings.iceberg.verdict_seconds)
        reader, first_reads = VersionReader(catalog, verifier=verifier), FirstReads()
        follower = VersionFollower(
            settings.kafka,
            reader=reader,
            codec=await MessageCodec.open(registry, COMMITS),
            tables=VERSIONED_TABLES,
            blocking=blocking,
            readiness=runtime.readiness,
            first_reads=first_reads,
            # The sink keeps the dead letters of announcements.
            undecodable=UndecodableMessages(
                settings.kafka, owner="query-service-undecodable", count=runtime.skipped
            ),
        )
        metrics.statements.source = lambda: {(): sandbox.running}
        metrics.statements_waiting.source = lambda: {(): sandbox.waiting}
        parts = parts_of(
            reader,
            queries,
            blocking,
            settings=settings.query,
            metrics=metrics,
            sandbox=sandbox,
            archive=await blocking.run(Archive, catalog, root=settings.iceberg.archive_root),
            first_reads=first_reads,
        )
        app = application(parts, runtime, settings.http)
        works = {"announcements": follower.follower.run, "catalogue": follower.refresh}
        yield Service(
            app=app,
            loops=[
                lasting(name, work, runtime.stop, retried=runtime.retried) for name, work in works.items()
            ],
        )
    finally:
        await sandbox.close()
        queries.close()
        engine.close()
        blocking.close()


def parts_of(
    reader: VersionReader,
    queries: Queries,
    blocking: Blocking,
    *,
    settings: QuerySettings,
    metrics: QueryMetrics,
    sandbox: Sandbox | None = None,
    archive: Archive | None = None,
    first_reads: FirstReads | None = None,
) -> AnswerDependencies:
    """What the endpoints work with, of what was opened for them."""
    planner = Planner(reader=reader, blocking=blocking)
    return AnswerDependencies(
        reader=reader,
        queries=queries,
        planner=planner,
        blocking=blocking,
        metrics=metrics,
        sandbox=sandbox,
        archive=archive,
        first_reads=first_reads or FirstReads(),
        citation_key=derive_key(settings.citation_key.get_secret_value().encode(), "query: citation"),
        pages=PageTokens.from_secret(settings.page_key.get_secret_value().encode()),
        reader_seconds=settings.reader_seconds,
    )


def application(parts: AnswerDependencies, runtime: Runtime, http: HttpSettings) -> FastAPI:
    """All endpoints with what every HTTP service has."""
    app = DocumentedApi(
        title="K2 query-service",
        version="1",
        description=DESCRIPTION,
        responses=problems(*READING),
        telemetry=UNTOLD,
        dependencies=[Depends(refuse_unknown)],
    )
    app.include_router(rows_routes(parts))
    app.include_router(bars_routes(parts))
    app.include_router(joins_routes(parts))
    app.include_router(summary_routes(parts))
    app.include_router(reference_routes(parts))
    app.include_router(gap_routes(parts))
    app.include_router(routes(parts))
    app.include_router(datasets_routes(parts))
    if parts.archive is not None:
        app.include_router(provenance_routes(parts, parts.archive))
    cited = citations_routes(Rerun(app), key=parts.citation_key, clock=runtime.clock)
    app.include_router(cited)
    if parts.sandbox is not None:
        app.include_router(sql_routes(parts, parts.sandbox))
    app.router.routes += documented(app.openapi)
    app.add_middleware(Attended)
    install_compression(app)
    install(
        app,
        readiness=runtime.readiness,
        metrics=runtime.metrics,
        settings=http,
        writes="read",
        clock=runtime.clock,
    )
    install_query_problems(app)
    install_validation(app)
    return app
