"""Servers on loopback addresses are asked directly, however dead the proxies of the environment are."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import duckdb
import pytest
from k2common.engine.store import attach_store
from k2common.errors import K2Error
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.rest_catalog import ClientCredentials
from k2common.observability.export import spans_exported
from k2common.registry.client import SchemaRegistry
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.loopback import exclude_host, is_loopback
from k2common.settings.registry import RegistrySettings
from k2common.settings.service import ObservabilitySettings
from pydantic import SecretStr
from pyiceberg.exceptions import OAuthError, RESTError

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
HASH = "0" * 64


class Server(ThreadingHTTPServer):
    """Answers 400 to everything and keeps the paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path.partition("?")[0])
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"{}")

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names are the methods

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True, params=["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def _dead_proxies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, request.param)
    for name in ("no_proxy", "NO_PROXY"):
        # Set first, so that what the engine adds goes with the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def on_store(server: Server) -> IcebergSettings:
    return IcebergSettings(
        catalog_uri="sqlite://",
        warehouse="s3://warehouse",
        s3_endpoint=server.url,
        s3_access_key_id="k2",
        s3_secret_access_key=SecretStr("secret"),
        s3_timeout_seconds=5,
    )


async def test_the_schema_registry(server: Server) -> None:
    registry = SchemaRegistry(RegistrySettings(url=server.url))
    with pytest.raises(K2Error):
        await registry.schema(1)
    assert server.paths == ["/schemas/ids/1"]


def test_the_rest_catalogue(server: Server) -> None:
    settings = IcebergSettings(catalog_type="rest", catalog_uri=server.url, warehouse="s3://warehouse")
    with pytest.raises((K2Error, RESTError)):
        open_catalog(settings)
    assert server.paths == ["/v1/config"]


def test_the_tokens_of_the_catalogue(server: Server) -> None:
    tokens = ClientCredentials("client:secret", url=f"{server.url}/token", scope=None, seconds=5)
    with pytest.raises(OAuthError):
        tokens.auth_header()
    assert server.paths == ["/token"]


def test_the_archive(server: Server) -> None:
    settings = on_store(server)
    with pytest.raises(K2Error, match="does not answer"):
        Archive(open_catalog(settings), root="s3://archive").holds(HASH)
    assert server.paths[0] == f"/archive/00/{HASH}.zstd"


def test_the_engine(server: Server) -> None:
    with duckdb.connect() as database:
        attach_store(database, on_store(server))
        with pytest.raises(duckdb.Error):
            database.execute("SELECT * FROM read_parquet('s3://warehouse/a.parquet')")
    assert server.paths[0] == "/warehouse/a.parquet"


def test_the_collector_of_spans(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    providers = []
    monkeypatch.setattr("opentelemetry.trace.set_tracer_provider", providers.append)
    with spans_exported(ObservabilitySettings(otlp_endpoint=server.url), service="sink", replica="0"):
        providers[0].get_tracer("test").start_span("span").end()
    assert server.paths == ["/v1/traces"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "a.example"}, "a.example,127.0.0.1"),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, "a.example,127.0.0.1"),
        ({"no_proxy": "127.0.0.1"}, "127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_a_host_is_added_to_those_without_a_proxy_once(before: dict[str, str], after: str) -> None:
    exclude_host(before, "127.0.0.1")
    assert before == {"no_proxy": after, "NO_PROXY": after}


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8001/x", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8001", True),
        ("https://localhost", True),
        ("http://k2.localhost:1", True),
        ("http://10.0.0.1:8001", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
        ("http://registry:8081", False),
        ("", False),
    ],
)
def test_what_is_a_loopback_address(url: str, loopback: bool) -> None:
    assert is_loopback(url) == loopback
