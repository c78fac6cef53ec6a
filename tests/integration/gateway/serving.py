"""The gateway's routes over a real spool, with a journal in memory instead of Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ingest_gateway.app import STREAMED
from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import ANSWERED, Spool
from ingest_gateway.claims.claims import Claim
from ingest_gateway.http.layout_routes import LayoutRoutes
from ingest_gateway.http.routes import Routes
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.tracker import Tracker
from ingest_gateway.uploads.reception import Reception
from k2common.http.app import create_app
from k2common.http.bodies import Places
from k2common.layouts.catalogue import Catalogue
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings
from k2common.testing.server import answer_of, on_socket, sent
from prometheus_client import CollectorRegistry

WAIT = 30
"""Seconds until a test gives up; none of them waits so long unless it fails."""


class Journal:
    """Claims in memory."""

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}

    async def write(
        self, key: str, decide: Callable[[Claim | None], Claim | None], *, read_back: bool
    ) -> Claim | None:
        assert read_back, "an answer to a client follows a committed read"
        claim = decide(self.claims.get(key))
        if claim is not None:
            self.claims[key] = claim
        return self.claims.get(key)


class Codec:
    """Encodes every claim alike."""

    def encode(self, _: object) -> bytes:
        return b"claim"


class Nothing:
    """A version reader and reference data without a version."""

    def refresh(self, _: str) -> None:
        return None

    async def at(self, _: int | None) -> None:
        return None


@dataclass(kw_only=True)
class Gateway:
    """A gateway on a port of its own."""

    folder: Path
    metrics: CollectorRegistry
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def sent(self, path: str, body: bytes, **headers: str) -> asyncio.StreamReader:
        """Begin a POST, whose length is the body's unless `content_length` says another."""
        given = {"host": "127.0.0.1", "content_length": str(len(body)), **headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{n.replace('_', '-')}: {v}" for n, v in given.items())]
        reader, writer = await sent(self.port, "\r\n".join([*lines, "", ""]).encode() + body)
        self.writers.append(writer)
        return reader

    async def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        return await asyncio.wait_for(answer_of(await self.sent(path, body, **headers)), WAIT)

    def spooled(self) -> list[str]:
        """Names of the bodies in the spool, of halves too, without the marks beside them."""
        return sorted(path.name for path in self.folder.iterdir() if path.suffix != ANSWERED)

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def open_gateway(folder: Path, *, places: int = 32, **http: Any) -> AsyncIterator[Gateway]:
    blocking, clock, tracker = Blocking(workers=2), SystemClock(), Tracker(SystemClock())
    tracker.complete = True
    registry = CollectorRegistry()
    limits = Limits(content_bytes=10**7, line_bytes=1024**2, reserve_bytes=0)
    unchanged = SimpleNamespace(check_replaced=lambda _: None, may_claim_again=lambda _: False)
    reception = Reception(
        journal=cast("Any", Journal()),
        codec=cast("Any", Codec()),
        spool=Spool(folder, limits=limits, blocking=blocking),
        publisher=cast("Any", SimpleNamespace(enqueue=lambda _: None)),
        changes=cast("Any", unchanged),
        reader=cast("Any", Nothing()),
        instruments=cast("Any", Nothing()),
        blocking=blocking,
        clock=clock,
        metrics=GatewayMetrics(registry),
        replica="0",
        bulk_bytes=10**6,
        max_columns=1000,
        places=Places(total=places, per_caller=places),
    )
    layouts = Catalogue.with_folder(None)
    unused: Any = None
    routes = Routes(
        reception=reception,
        tracker=tracker,
        rejects=unused,
        layouts=layouts,
        changes=cast("Any", unchanged),
        past=unused,
        archive=unused,
        blocking=blocking,
        page_key=b"k2",
    )
    app = create_app(
        [*routes.routes(), *LayoutRoutes(layouts, blocking=blocking, clock=clock).routes()],
        readiness=Readiness(),
        metrics=registry,
        settings=HttpSettings(port=1, **http),
        writes="ingest",
        streamed=STREAMED,
    )
    gateway = Gateway(folder=folder, metrics=registry)
    async with on_socket(app) as gateway.port:
        try:
            yield gateway
        finally:
            await gateway.close()
    blocking.close()
