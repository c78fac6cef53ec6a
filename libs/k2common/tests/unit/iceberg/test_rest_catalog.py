"""Tokens of a REST catalogue: asked for once, renewed before they run out, requested again once refused."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from k2common.errors import SetupError, TransientError
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.rest_catalog import ClientCredentials
from k2common.settings.iceberg import IcebergSettings
from pydantic import SecretStr
from pyiceberg.exceptions import OAuthError

LIFE = 3600


class Server(ThreadingHTTPServer):
    """A catalogue without tables that takes the newest token only."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.granted: list[dict[str, Any]] = []
        self.valid = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if form["client_secret"] != "right":  # noqa: S105
            self._answer(401, {})
            return
        if self.path == "/other":
            self._answer(200, {})
            return
        self.server.granted.append(form)
        self.server.valid = f"t{len(self.server.granted)}"
        self._answer(200, {"access_token": self.server.valid, "token_type": "bearer", "expires_in": LIFE})

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {self.server.valid}":
            error = {"message": "unknown token", "type": "NotAuthorizedException", "code": 401}
            self._answer(401, {"error": error})
        elif self.path.startswith("/v1/config"):
            self._answer(200, {"defaults": {}, "overrides": {}})
        else:
            self._answer(200, {"namespaces": [["market"]]})

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def tokens(server: Server, hand: Hand, *, secret: str = "right", path: str = "/token") -> ClientCredentials:  # noqa: S107
    return ClientCredentials(f"me:{secret}", url=f"{server.url}{path}", scope="all", seconds=5, now=hand)


def test_one_token_serves_all_threads_until_it_is_about_to_run_out(server: Server) -> None:
    hand = Hand()
    credentials = tokens(server, hand)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: credentials.auth_header(), range(40))) == {"Bearer t1"}
    hand.at = LIFE - 61
    assert credentials.auth_header() == "Bearer t1"
    hand.at = LIFE - 60
    assert credentials.auth_header() == "Bearer t2"
    form = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "right", "scope": "all"}
    assert server.granted == [form, form]


def test_a_refused_client_is_said_without_its_secret(server: Server) -> None:
    with pytest.raises(OAuthError, match="me is refused") as caught:
        tokens(server, Hand(), secret="wrong").auth_header()  # noqa: S106
    assert "wrong" not in str(caught.value)


def test_an_address_that_gives_no_token_is_an_error(server: Server) -> None:
    with pytest.raises(OAuthError, match="gives no token"):
        tokens(server, Hand(), path="/other").auth_header()


def settings(server: Server, secret: str) -> IcebergSettings:
    return IcebergSettings(
        catalog_type="rest",
        catalog_uri=server.url,
        catalog_credential=SecretStr(f"me:{secret}"),
        warehouse="w",
    )


def test_a_catalogue_that_forgot_its_tokens_is_asked_again(server: Server) -> None:
    catalog = open_catalog(settings(server, "right"))
    assert catalog.list_namespaces() == [("market",)]
    server.valid = "made by another life of the catalogue"
    assert catalog.list_namespaces() == [("market",)]
    assert len(server.granted) == 2


def test_a_refused_user_is_an_error_of_the_settings(server: Server) -> None:
    with pytest.raises(SetupError, match="refuses the user"):
        open_catalog(settings(server, "wrong"))


def test_nobody_at_the_address_is_an_outage() -> None:
    with pytest.raises(TransientError):
        open_catalog(IcebergSettings(catalog_type="rest", catalog_uri="http://127.0.0.1:9", warehouse="w"))
