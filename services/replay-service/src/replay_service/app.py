"""Wires the replay service together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from k2common.engine.connection import Engine
from k2common.http.app import create_app
from k2common.http.queries import install_query_problems
from k2common.http.streaming import Attended
from k2common.http.tokens import TokenMaker
from k2common.http.viewer import documented
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.kafka.boundary import UndecodableMessages
from k2common.query.queries import Queries
from k2common.query.query_metrics import QueriesMetrics
from k2common.query.version_follower import VersionFollower
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.fault_metrics import FaultMetrics
from k2common.runtime.retry import lasting
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import COMMITS, QUOTES, SESSIONS, TRADES

from replay_service.metrics import ReplayMetrics
from replay_service.openapi import api
from replay_service.routes import Routes, SessionsPage
from replay_service.sessions import Sessions
from replay_service.settings import ReplayServiceSettings
from replay_service.stream import CursorToken

FOLLOWING = "sessions"


@asynccontextmanager
async def build(settings: ReplayServiceSettings, runtime: Runtime) -> AsyncIterator[Service]:
    """The endpoints, and loops that keep versions and sessions up to date."""
    blocking = Blocking(workers=4)
    engine = Engine(settings.engine, warehouse=settings.iceberg)
    queries = Queries(engine, settings.engine, metrics=QueriesMetrics(runtime.metrics))
    try:
        registry = SchemaRegistry(settings.registry)
        catalog = await blocking.run(open_catalog, settings.iceberg)
        verifier = FaultMetrics(runtime.metrics).verifier(settings.iceberg.verdict_seconds)
        reader = VersionReader(catalog, verifier=verifier)
        undecodable = UndecodableMessages(
            settings.kafka,
            owner=f"replay-service-undecodable-{settings.service.replica}",
            keeps={SESSIONS.name},
            count=runtime.skipped,
            now=runtime.clock.now,
        )
        versions = VersionFollower(
            settings.kafka,
            reader=reader,
            codec=await MessageCodec.open(registry, COMMITS),
            tables=[TRADES.table, QUOTES.table],
            blocking=blocking,
            readiness=runtime.readiness,
            undecodable=undecodable,
        )
        sessions = Sessions(
            settings.kafka,
            codec=await MessageCodec.open(registry, SESSIONS),
            replica=settings.service.replica,
            undecodable=undecodable,
            clock=runtime.clock,
            most=settings.replay.max_sessions,
            most_per_caller=settings.replay.max_sessions_per_caller,
            age=timedelta(days=settings.replay.session_days),
        )
        secret = settings.replay.cursor_key.get_secret_value().encode()
        routes = Routes(
            sessions=sessions,
            reader=reader,
            queries=queries,
            blocking=blocking,
            clock=runtime.clock,
            metrics=ReplayMetrics(runtime.metrics),
            cursors=TokenMaker(secret, purpose="replay: cursor", shape=CursorToken),
            pages=TokenMaker(secret, purpose="replay: page of sessions", shape=SessionsPage),
            reader_seconds=settings.http.reader_seconds,
        )
        app = create_app(
            [*routes.routes(), *documented(api)],
            readiness=runtime.readiness,
            metrics=runtime.metrics,
            settings=settings.http,
            writes="read",
            clock=runtime.clock,
        )
        install_query_problems(app)
        app.add_middleware(Attended)
        runtime.readiness.waiting(FOLLOWING, "the sessions are being read")

        async def ready(stop: asyncio.Event) -> None:
            if await sessions.follower.until_caught_up(stop):
                runtime.readiness.ready(FOLLOWING)

        works = {
            "announcements": versions.follower.run,
            "catalogue": versions.refresh,
            "sessions": sessions.follower.run,
            "ready": ready,
        }
        yield Service(
            app=app,
            loops=[
                lasting(name, work, runtime.stop, retried=runtime.retried) for name, work in works.items()
            ],
        )
    finally:
        queries.close()
        engine.close()
        blocking.close()
