"""The door of a service that starts answers its own names alone, as the service behind it does."""

from functools import partial

import httpx
import pytest
from k2common.http.access.hosts import HostGuard
from k2common.observability.metrics import CollectorRegistry
from k2common.runtime.startup_app import StartupApp
from k2common.settings.service import HttpSettings
from starlette.responses import PlainTextResponse

PATHS = ("/livez", "/readyz", "/metrics", "/v1/uploads", "/")


def made() -> StartupApp:
    return StartupApp(CollectorRegistry(), guard=partial(HostGuard, settings=HttpSettings(port=1)))


async def send_request(door: StartupApp, method: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://127.0.0.1") as http:
        return await http.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})


@pytest.mark.parametrize("path", PATHS)
async def test_a_foreign_host_reads_nothing_while_the_service_starts(path: str) -> None:
    refused = await send_request(made(), "GET", path, Host="evil.example")
    assert (refused.status_code, refused.json()["code"]) == (403, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}])
async def test_a_page_of_another_origin_writes_nothing_while_the_service_starts(
    headers: dict[str, str],
) -> None:
    refused = await send_request(made(), "POST", "/v1/uploads", **headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "CROSS_SITE_REQUEST")


async def test_own_names_get_the_answers_of_a_service_that_starts() -> None:
    found = {
        path: (await send_request(made(), "GET", path, Host="localhost:9")).status_code for path in PATHS
    }
    assert found == {"/livez": 200, "/readyz": 503, "/metrics": 200, "/v1/uploads": 503, "/": 503}


async def test_an_open_door_leaves_the_guard_to_the_service() -> None:
    door = made()
    door.open(PlainTextResponse("the service"))
    assert (await send_request(door, "GET", "/", Host="evil.example")).text == "the service"
