"""The client asks a fleet on this machine directly, others through the proxy that the environment names."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from k2client.client import Client
from k2client.errors import K2HttpError
from k2client.loopback import proxy_options

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Handler(BaseHTTPRequestHandler):
    """Answers 404 and says in the reason which address was asked for."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Asked", self.requestline)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_fleet_on_this_machine_is_asked_directly(
    proxies: pytest.MonkeyPatch, address: str, proxy: str
) -> None:
    for name in VARIABLES:
        proxies.setenv(name, proxy)
    with Client(gateway_url=f"http://{address}") as client, pytest.raises(K2HttpError):
        client.receipt("x")


def test_of_two_fleets_the_distant_one_is_asked_through_the_proxy(
    proxies: pytest.MonkeyPatch, address: str
) -> None:
    for name in VARIABLES:
        proxies.setenv(name, f"http://{address}")
    urls = ["http://k2.example", "http://127.0.0.1:9"]
    with httpx.Client(**proxy_options(urls)) as client:
        assert client.get(f"{urls[0]}/a").headers["X-Asked"] == "GET http://k2.example/a HTTP/1.1"
        with pytest.raises(httpx.ConnectError):
            client.get(f"{urls[1]}/a")
