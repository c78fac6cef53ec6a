"""A person finds out at any service what it is, without a key and without anything from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from k2common.http.access.keys import create
from k2common.http.app import create_app
from k2common.http.openapi import Operation, document, one
from k2common.http.viewer import LINKS, documented
from k2common.runtime.clock import SystemClock
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings
from prometheus_client import CollectorRegistry

OPERATION = Operation(
    method="get", path="/v1/things", summary="Things <b>.", answers={200: one({"type": "object"})}
)
SOURCE = re.compile(r"(?:src|href)=([^ >]+)")


@pytest.fixture
def client(tmp_path: Path) -> httpx.AsyncClient:
    """A service where keys are on; the client has none."""
    create(tmp_path / "keys.json", name="someone", scopes=("read",), now=SystemClock().now())
    app = create_app(
        documented(
            lambda: document(title="K2 things", description="Has things.", operations=[OPERATION], schemas={})
        ),
        readiness=Readiness(),
        metrics=CollectorRegistry(),
        settings=HttpSettings(port=1, keys_file=tmp_path / "keys.json"),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_the_page_and_all_that_it_loads_come_from_the_service_without_a_key(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    loaded = SOURCE.findall(page.text)
    assert any(path.endswith("swagger-ui-bundle.js") for path in loaded)
    assert any(path.endswith("swagger-ui.css") for path in loaded)
    for path in loaded:
        assert path.startswith("/")
        assert (await client.get(path)).status_code == 200, path


async def test_the_browser_is_told_to_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/docs")).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    # Swagger UI asks an online validator unless told not to.
    assert '"validatorUrl": null' in (await client.get("/docs/start.js")).text


async def test_the_page_lists_the_operations_without_javascript(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "GET /v1/things" in page
    assert "Things &lt;b&gt;." in page


async def test_the_start_page_says_what_the_service_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    data = answer.json()["data"]
    assert (data["service"], data["description"], data["links"]) == ("K2 things", "Has things.", dict(LINKS))
    html = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert html.headers["content-type"].startswith("text/html")
    assert set(LINKS.values()) <= set(SOURCE.findall(html.text))


async def test_everything_else_still_needs_a_key(client: httpx.AsyncClient) -> None:
    for path in ("/v1/things", "/docs/other"):
        assert (await client.get(path)).status_code == 401, path
