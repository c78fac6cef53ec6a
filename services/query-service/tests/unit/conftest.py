"""A catalogue in a folder and the service over it, without Kafka."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from k2common.engine.connection import Engine
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking
from k2common.runtime.service import Runtime
from k2common.schemas.datasets import MARKET_DATASETS
from k2common.settings.engine import EngineSettings
from k2common.settings.service import HttpSettings
from k2common.testing.iceberg import folder_catalog
from pydantic import SecretStr
from query_service.answers.answer_context import AnswerDependencies
from query_service.app import application, parts_of
from query_service.metrics import QueryMetrics
from query_service.settings import QuerySettings

SECRET = SecretStr("a-secret-of-the-tests")

SMALL = EngineSettings(memory_megabytes=256)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog, MARKET_DATASETS.values())
    return catalog


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    engine = Engine(SMALL)
    yield engine
    engine.close()


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def parts(catalog: Catalog, engine: Engine, runtime: Runtime) -> Iterator[AnswerDependencies]:
    queries, blocking = Queries(engine, SMALL), Blocking(workers=2)
    metrics = QueryMetrics(runtime.metrics)
    yield parts_of(
        VersionReader(catalog),
        queries,
        blocking,
        settings=QuerySettings(citation_key=SECRET, page_key=SECRET),
        metrics=metrics,
    )
    queries.close()
    blocking.close()


@pytest.fixture
async def client(parts: AnswerDependencies, runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoints; each request sees the newest versions."""
    transport = httpx.ASGITransport(application(parts, runtime, HttpSettings(port=8004)))

    async def refresh(request: httpx.Request) -> None:
        for dataset in MARKET_DATASETS.values():
            parts.reader.refresh(dataset.table)

    hooks = {"request": [refresh]}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", event_hooks=hooks) as client:
        yield client
