"""No service signs with a secret that is not its own, and none takes a token of another endpoint."""

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from iceberg_sink.dead_letters.routes import LettersPage
from ingest_gateway.http.routes import UploadsPage
from k2common.errors import SetupError
from k2common.http.tokens import TokenMaker
from k2common.settings.load import load
from k2common.settings.signing import require_own_secrets
from k2local.fleet import SERVICES as PACKAGES
from k2local.signing import FILE, VARIABLES, signing_environment
from query_service.answers.page_tokens import KeyPage, PageTokens

from tests.structure.apps import SERVICES, SIGNING, open_apps
from tests.structure.test_deployment import OURS, composed, with_http

NEEDED = {
    "ingest-gateway": ["K2_GATEWAY__PAGE_KEY"],
    "iceberg-sink": ["K2_SINK__PAGE_KEY"],
    "query-service": ["K2_QUERY__CITATION_KEY", "K2_QUERY__PAGE_KEY"],
    "replay-service": ["K2_REPLAY__CURSOR_KEY"],
}
BASE = {
    "K2_HTTP__PORT": "1",
    "K2_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "K2_REGISTRY__URL": "http://127.0.0.1:1",
    "K2_ICEBERG__CATALOG_URI": "sqlite:///x",
    "K2_ICEBERG__WAREHOUSE": "file:///x",
    "K2_GATEWAY__SPOOL": "x",
}
PLACES = ("/v1/uploads", "/v1/dead-letters", "/v1/trades", "/v1/gaps", "/v1/symbols")


@pytest.mark.parametrize("service", NEEDED)
def test_a_service_without_its_own_secrets_is_not_started(
    service: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in NEEDED[service]:
        others = {one: "a-secret-of-the-tests" for one in SIGNING if one != name}
        for given in ({}, {name: ""}, {name: "short"}):
            with pytest.raises(SetupError, match=name):
                load(SERVICES[service][0], {**BASE, **others, **given})
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    for name, value in BASE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [PACKAGES[service]])
    monkeypatch.chdir(tmp_path)
    # As `python -m` does, without what a new interpreter takes to import everything again.
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(PACKAGES[service], run_name="__main__")
    assert ended.value.code == os.EX_CONFIG
    said = capsys.readouterr().err
    assert all(name in said for name in NEEDED[service])


@pytest.mark.parametrize("service", SERVICES)
def test_placeholders_serve_this_machine_alone(service: str) -> None:
    environ = composed()["services"][service]["environment"]
    settings: Any = load(OURS[service], with_http(environ))
    require_own_secrets(settings, settings.http)
    for host in ("0.0.0.0", "192.0.2.7", "k2.example"):  # noqa: S104 - never bound
        settings = load(OURS[service], with_http({**environ, "K2_HTTP__PUBLISHED_HOST": host}))
        with pytest.raises(SetupError) as refused:
            require_own_secrets(settings, settings.http)
        secrets = {"K2_ICEBERG__S3_SECRET_ACCESS_KEY", "K2_ICEBERG__CATALOG_CREDENTIAL"}
        assert all(name in str(refused.value) for name in (*NEEDED.get(service, ()), *secrets))
        assert "change-me-" not in str(refused.value)


def test_the_local_fleet_makes_secrets_of_its_own_and_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    first, again = signing_environment(tmp_path / "a"), signing_environment(tmp_path / "a")
    assert first == again
    assert first.keys() == set(SIGNING)
    assert len({*first.values(), *signing_environment(tmp_path / "b").values()}) == 2 * len(SIGNING)
    assert min(map(len, first.values())) >= 43
    assert (tmp_path / "a" / FILE).stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("K2_QUERY__PAGE_KEY", "a-secret-of-the-tests")
    assert signing_environment(tmp_path / "a")["K2_QUERY__PAGE_KEY"] == "a-secret-of-the-tests"


async def test_a_token_of_one_endpoint_is_nothing_to_another(tmp_path: Path) -> None:
    """All secrets are the same here, so that only the purpose tells the tokens apart."""
    async with open_apps(tmp_path) as apps:
        tokens = tokens_of(apps)
        assert len(tokens) == 3
        for app in apps.values():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                served = (await http.get("/openapi.json")).json()["paths"]
                for path in PLACES:
                    for maker, token in tokens.items():
                        if path in served and maker != path:
                            answer = await http.get(path, params={"page_token": token})
                            found = (answer.status_code, answer.json()["code"])
                            assert found == (400, "INVALID_PAGE_TOKEN"), path


def tokens_of(apps: Mapping[str, Any]) -> Mapping[str, str]:
    """Tokens as the endpoints make them."""
    secret = b"a-secret-of-the-tests"
    letters = TokenMaker(secret, purpose="sink: page of dead letters", shape=LettersPage)
    uploads = TokenMaker(secret, purpose="gateway: page of uploads", shape=UploadsPage)
    rows = PageTokens.from_secret(secret).rows
    return {
        "/v1/dead-letters": letters.make(LettersPage(after=("market.trades.v1", 0, 0, 1))),
        "/v1/uploads": uploads.make(UploadsPage(before="01M86KAY8WBQN4BGJ0DGREQQCB")),
        "/v1/trades": rows.make(KeyPage(version="trades@1", filter="x", key=["A"])),
    }
