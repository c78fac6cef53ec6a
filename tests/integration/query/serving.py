"""The query service's application over a catalogue in a folder, without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from fastapi import FastAPI
from k2common.engine.connection import Engine
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking
from k2common.runtime.service import Runtime
from k2common.settings.engine import EngineSettings
from k2common.settings.service import HttpSettings
from pydantic import SecretStr
from query_service.app import application, parts_of
from query_service.metrics import QueryMetrics
from query_service.settings import QuerySettings

SECRET = SecretStr("a-secret-of-the-tests")

SMALL = EngineSettings(memory_megabytes=256)


@contextmanager
def serving(
    catalog: Catalog, *, engine: EngineSettings = SMALL, query: QuerySettings | None = None
) -> Iterator[FastAPI]:
    """The application; what it opened is closed at the end."""
    blocking, opened, runtime = Blocking(workers=4), Engine(engine), Runtime()
    queries = Queries(opened, engine)
    try:
        parts = parts_of(
            VersionReader(catalog),
            queries,
            blocking,
            settings=query or QuerySettings(citation_key=SECRET, page_key=SECRET),
            metrics=QueryMetrics(runtime.metrics),
        )
        yield application(parts, runtime, HttpSettings(port=8004))
    finally:
        queries.close()
        opened.close()
        blocking.close()


def client(app: FastAPI) -> httpx.AsyncClient:
    """A client of the application in this process."""
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://query", timeout=60)
