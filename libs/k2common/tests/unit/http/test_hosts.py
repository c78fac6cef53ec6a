"""A service answers to its own names, and web pages of other origins write nothing."""

import httpx
import pytest
from k2common.errors import SetupError
from k2common.http.access.hosts import parse_authority
from k2common.http.app import create_app
from k2common.runtime.readiness import Readiness
from k2common.settings.block import Block
from k2common.settings.load import load
from k2common.settings.service import HttpSettings
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

SERVER = "10.0.0.7"
"""The address at which the requests arrive, such as that of a pod."""


class Settings(Block):
    http: HttpSettings


async def answer(_: Request) -> Response:
    return PlainTextResponse("yes")


async def asked(method: str, allowed: str = "", **headers: str) -> tuple[int, str | None]:
    """Status and code."""
    settings = load(Settings, {"K2_HTTP__PORT": "1", "K2_HTTP__ALLOWED_HOSTS": allowed}).http
    app = create_app(
        [Route("/v1/things", answer, methods=["GET", "POST", "DELETE"])],
        readiness=Readiness(),
        metrics=CollectorRegistry(),
        settings=settings,
    )
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{SERVER}") as http:
        found = await http.request(method, "/v1/things", headers=given)
    return found.status_code, found.json()["code"] if found.status_code != 200 else None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8001", "localhost.", "127.0.0.1:9", "127.3.2.1", "[::1]:8001", f"{SERVER}:80"],
)
async def test_loopback_and_the_address_of_the_connection_are_its_own(host: str) -> None:
    assert await asked("GET", Host=host) == (200, None)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8001",
        "0.0.0.0",  # noqa: S104 - as a client says it
        "10.0.0.8",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "[::2]",
        "",
        "x y",
    ],
)
async def test_any_other_host_is_refused_for_reading_and_writing(host: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert await asked(method, Host=host) == (403, "HOST_NOT_ALLOWED")


async def test_names_that_the_settings_allow_are_its_own() -> None:
    allowed = "query-service, K2.example, *.k2.svc"
    assert await asked("GET", allowed, Host="query-service:8004") == (200, None)
    assert await asked("GET", allowed, Host="k2.example") == (200, None)
    assert await asked("GET", allowed, Host="gateway-0.gateway.k2.svc:8001") == (200, None)
    assert await asked("GET", allowed, Host="k2.svc") == (403, "HOST_NOT_ALLOWED")
    assert await asked("GET", allowed, Host="evilk2.svc") == (403, "HOST_NOT_ALLOWED")
    assert await asked("GET", allowed, Host="www.k2.example") == (403, "HOST_NOT_ALLOWED")
    assert await asked("GET", "*", Host="anything.example") == (200, None)
    assert await asked("POST", "*", Host="anything.example", Origin="https://evil.example") == (
        403,
        "CROSS_SITE_REQUEST",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost:8001.evil.example"},
        {"Origin": "file://"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://localhost:8001", "Sec_Fetch_Site": "cross-site"},
    ],
)
async def test_a_page_of_another_origin_reads_at_most(headers: dict[str, str]) -> None:
    for method in ("POST", "DELETE"):
        assert await asked(method, Host="localhost:8001", **headers) == (403, "CROSS_SITE_REQUEST")
    assert await asked("GET", Host="localhost:8001", **headers) == (200, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8001"},
        {"Origin": "http://localhost:8001", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
    ],
)
async def test_clients_and_the_services_own_pages_write(headers: dict[str, str]) -> None:
    assert await asked("POST", Host="localhost:8001", **headers) == (200, None)


async def test_a_page_behind_a_proxy_that_renames_the_host_writes_when_its_name_is_allowed() -> None:
    allowed = "k2.example"
    assert await asked("POST", allowed, Host="k2.example", Origin="https://k2.example") == (200, None)
    assert await asked("POST", allowed, Host=f"{SERVER}:8004", Origin="https://k2.example") == (200, None)
    assert await asked("POST", allowed, Host=SERVER, Origin="https://evil.example") == (
        403,
        "CROSS_SITE_REQUEST",
    )


@pytest.mark.parametrize("hosts", ["http://k2.example", "k2.example:80", "a/b", '["a", "b c"]'])
def test_a_setting_that_is_no_name_stops_the_start(hosts: str) -> None:
    with pytest.raises(SetupError, match="K2_HTTP__ALLOWED_HOSTS"):
        load(Settings, {"K2_HTTP__PORT": "1", "K2_HTTP__ALLOWED_HOSTS": hosts})


def test_a_host_is_parsed_with_its_port() -> None:
    assert parse_authority("[::1]:8001") == ("::1", "8001")
    assert parse_authority("K2.example:443") == ("k2.example", "")
    assert parse_authority("k2.example:x") is None
