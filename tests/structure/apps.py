"""The HTTP applications of all five services, built by their own `build` without a broker or a registry."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import csv_loader.app
import iceberg_sink.app
import ingest_gateway.app
import query_service.app
import replay_service.app
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.registry.client import SchemaRegistry
from k2common.runtime.service import Build, Runtime
from k2common.settings.load import load
from k2common.testing.iceberg import folder_catalog
from query_service.settings import QueryServiceSettings
from replay_service.settings import ReplayServiceSettings
from starlette.routing import BaseRoute, Route

SERVICES: Mapping[str, tuple[type[Any], Build[Any]]] = {
    "ingest-gateway": (IngestGatewaySettings, ingest_gateway.app.build),
    "csv-loader": (CsvLoaderSettings, csv_loader.app.build),
    "iceberg-sink": (IcebergSinkSettings, iceberg_sink.app.build),
    "query-service": (QueryServiceSettings, query_service.app.build),
    "replay-service": (ReplayServiceSettings, replay_service.app.build),
}
SIGNING = (
    "K2_GATEWAY__PAGE_KEY",
    "K2_SINK__PAGE_KEY",
    "K2_QUERY__PAGE_KEY",
    "K2_QUERY__CITATION_KEY",
    "K2_REPLAY__CURSOR_KEY",
)
VALUES = {"{line}": "1", "{dataset}": "trades", "{trading_date}": "2014-03-11"}
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@asynccontextmanager
async def open_apps(home: Path, **environ: str) -> AsyncIterator[Mapping[str, Any]]:
    """Yield each service's application by the service's name; no loop of a service runs."""
    iceberg = folder_catalog(home)
    ensure_tables(open_catalog(iceberg))
    given = {
        "K2_HTTP__PORT": "1",
        "K2_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "K2_REGISTRY__URL": "http://127.0.0.1:1",
        "K2_ICEBERG__CATALOG_URI": iceberg.catalog_uri,
        "K2_ICEBERG__WAREHOUSE": iceberg.warehouse,
        **dict.fromkeys(SIGNING, "a-secret-of-the-tests"),
        "K2_GATEWAY__SPOOL": str(home / "spool"),
        "K2_ENGINE__MEMORY_MEGABYTES": "256",
        "K2_SANDBOX__MEMORY_MEGABYTES": "256",
        **environ,
    }
    with patch.object(SchemaRegistry, "ensure", AsyncMock(return_value=1)):
        async with AsyncExitStack() as stack:
            services = {
                name: await stack.enter_async_context(build(load(kind, given), Runtime()))
                for name, (kind, build) in SERVICES.items()
            }
            yield {name: service.app for name, service in services.items()}


def operations(app: Any) -> Iterator[tuple[str, str]]:
    """Every (method, path template) that the application serves, but for HEAD and OPTIONS."""
    for route in _flat(app.routes):
        for method in sorted((route.methods or {"GET"}) - {"HEAD", "OPTIONS"}):
            yield method, route.path


def path_of(template: str) -> str:
    """A path of the template; its ids are of nothing that exists."""
    return re.sub(r"{\w+}", lambda name: VALUES.get(name.group(), "X"), template)


def _flat(routes: list[BaseRoute]) -> Iterator[Route]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            # FastAPI keeps an included router as one route with the router inside.
            yield from _flat(list(getattr(route, "original_router", route).routes or ()))
