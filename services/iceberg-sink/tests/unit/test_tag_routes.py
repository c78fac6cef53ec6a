"""Tags over HTTP: made, moved and deleted by name, and only for versions that can be read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from iceberg_sink.tags.routes import TagRoutes
from k2common.http.app import create_app
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.tags import Tags
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings
from k2common.testing.iceberg import append_trades, folder_catalog
from prometheus_client import CollectorRegistry


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog)
    append_trades(catalog, 3)
    append_trades(catalog, 3)
    blocking = Blocking(workers=1)
    routes = TagRoutes(Tags(catalog), VersionReader(catalog), blocking=blocking, clock=SystemClock())
    app = create_app(
        routes.routes(),
        readiness=Readiness(),
        metrics=CollectorRegistry(),
        settings=HttpSettings(port=1),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sink") as client:
        yield client
    blocking.close()


async def put(http: httpx.AsyncClient, **parameters: str) -> tuple[int, Any]:
    answer = await http.post("/v1/tags", params=parameters)
    return answer.status_code, answer.json().get("data") or answer.json()["code"]


async def test_a_tag_is_made_moved_and_deleted(http: httpx.AsyncClient) -> None:
    status, made = await put(http, name="eod", token="market.trades@1")  # noqa: S106 - names versions
    assert (status, made["name"], made["token"]) == (201, "eod", "trades@1")
    status, moved = await put(http, name="eod", token="trades@2")  # noqa: S106
    assert (status, moved["token"]) == (200, "trades@2")
    assert (await http.get("/v1/tags")).json()["data"] == [moved]
    assert (await http.get("/v1/tags/eod")).json()["data"] == moved
    assert (await http.delete("/v1/tags/eod")).json()["data"] == moved
    assert (await http.get("/v1/tags")).json()["data"] == []
    for answer in (await http.get("/v1/tags/eod"), await http.delete("/v1/tags/eod")):
        assert (answer.status_code, answer.json()["code"]) == (404, "TAG_UNKNOWN")


async def test_without_a_token_it_names_the_newest_versions(http: httpx.AsyncClient) -> None:
    _, made = await put(http, name="now")
    assert made["token"] == "trades@2"  # noqa: S105


async def test_what_cannot_be_read_gets_no_tag(http: httpx.AsyncClient) -> None:
    assert await put(http, name="eod", token="trades@3") == (422, "VERSION_UNKNOWN")  # noqa: S106
    assert await put(http, name="eod", token="nothing") == (400, "INVALID_PARAMETER")  # noqa: S106
    assert await put(http, name="eod", token="prices@1") == (422, "VERSION_UNKNOWN")  # noqa: S106
    assert await put(http, name="2026-01-01") == (400, "INVALID_PARAMETER")
    assert await put(http, nmae="eod") == (400, "INVALID_PARAMETER")
    assert (await http.get("/v1/tags")).json()["data"] == []
