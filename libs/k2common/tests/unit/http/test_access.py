"""Strangers are kept out, keys do what their scopes say, and nobody asks more often than allowed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.errors import RecordError, SetupError
from k2common.http.access.key_command import main
from k2common.http.access.keys import KeyFile, create, listed, revoke, rotate
from k2common.http.access.rate_limits import RateLimit
from k2common.http.app import create_app
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


async def answer(_: Request) -> Response:
    return PlainTextResponse("yes")


def client(clock: Clock, **settings: Any) -> httpx.AsyncClient:
    app = create_app(
        [Route("/v1/things", answer, methods=["GET", "POST"])],
        readiness=Readiness(),
        metrics=CollectorRegistry(),
        settings=HttpSettings(port=1, **settings),
        writes="ingest",
        clock=clock,  # type: ignore[arg-type]
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://k2")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "k2.example"])  # noqa: S104
def test_a_service_without_keys_serves_no_other_machine(clock: Clock, host: str, file: Path) -> None:
    with pytest.raises(SetupError, match="K2_HTTP__KEYS_FILE"):
        client(clock, host=host)
    client(clock, host=host, allow_anonymous=True)
    with pytest.raises(SetupError, match="holds no keys"):
        client(clock, host=host, keys_file=file)
    create(file, name="a", scopes=["read"], now=NOW)
    client(clock, host=host, keys_file=file)


@pytest.mark.parametrize(
    ("scopes", "get", "post"), [(["read"], 200, 403), (["ingest"], 403, 200), (["admin"], 200, 200)]
)
async def test_a_key_does_what_its_scopes_say(
    clock: Clock, file: Path, scopes: list[str], get: int, post: int
) -> None:
    text = create(file, name="a", scopes=scopes, now=NOW)
    async with client(clock, keys_file=file) as http:
        for headers in ({"Authorization": f"bearer {text}"}, {"X-API-Key": text}):
            found = [await http.request(m, "/v1/things", headers=headers) for m in ("GET", "POST")]
            assert [one.status_code for one in found] == [get, post]
            assert all(one.json()["code"] == "SCOPE_MISSING" for one in found if one.status_code == 403)


async def test_without_a_key_nothing_but_the_probes_is_open(clock: Clock, file: Path) -> None:
    create(file, name="a", scopes=["admin"], now=NOW)
    async with client(clock, keys_file=file) as http:
        for headers, code in (({}, "KEY_MISSING"), ({"X-API-Key": "k2_x_y"}, "KEY_INVALID")):
            refused = await http.get("/v1/things", headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, code)
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert refused.headers["X-Request-ID"] == refused.json()["request_id"]
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/metrics")).status_code == 200


def test_a_rotated_key_has_its_grace_and_a_revoked_one_has_none(clock: Clock, file: Path) -> None:
    old = create(file, name="a", scopes=["read"], now=NOW)
    keys = KeyFile(file, clock=clock)  # type: ignore[arg-type]
    first = keys.find(old)
    assert first is not None
    new = rotate(file, first.id, grace=timedelta(seconds=100), now=NOW)
    clock.seconds = 2
    second = keys.find(new)
    assert second is not None
    assert (second.name, second.scopes) == ("a", ("read",))
    assert keys.find(old) is not None
    revoke(file, second.id, now=NOW)
    clock.seconds = 101
    assert keys.find(old) is None
    assert keys.find(new) is None


def test_it_is_told_when_a_key_in_use_ends(clock: Clock, file: Path) -> None:
    old = create(file, name="a", scopes=["read"], now=NOW)
    unused = create(file, name="b", scopes=["read"], now=NOW)
    keys = KeyFile(file, clock=clock)  # type: ignore[arg-type]
    first, second = listed(file)
    rotate(file, first.id, grace=timedelta(days=7), now=NOW)
    rotate(file, second.id, grace=timedelta(days=1), now=NOW)
    clock.seconds = 2
    assert keys.left_seconds() is None
    assert keys.find(old) is not None
    assert keys.left_seconds() == 7 * 86_400 - 2
    assert keys.find(unused) is not None
    assert keys.left_seconds() == 86_400 - 2
    clock.seconds = 2 * 86_400
    assert keys.left_seconds() is None


def test_the_file_holds_no_secret_and_is_its_owners(clock: Clock, file: Path) -> None:
    text = create(file, name="a", scopes=["read"], now=NOW)
    assert text.split("_", 2)[2] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    keys = KeyFile(file, clock=clock)  # type: ignore[arg-type]
    file.write_text("broken")
    clock.seconds = 5
    assert keys.find(text) is not None


def test_a_wrong_scope_or_key_is_named(file: Path) -> None:
    with pytest.raises(RecordError, match="read, ingest, admin"):
        create(file, name="a", scopes=["root"], now=NOW)
    with pytest.raises(RecordError, match="no key x"):
        revoke(file, "x", now=NOW)


def test_the_command_prints_a_key_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["keys", "--file", str(file)]
    assert main([*base, "create", "--name", "job", "--scope", "read"]) == 0
    text = capsys.readouterr().out.strip()
    (key,) = listed(file)
    assert text.startswith(f"k2_{key.id}_")
    assert main([*base, "rotate", key.id]) == 0
    assert main([*base, "revoke", key.id]) == 0
    capsys.readouterr()
    assert main([*base, "list"]) == 0
    assert [line.split("\t")[1:3] for line in capsys.readouterr().out.splitlines()] == [["job", "read"]] * 2
    assert main([*base, "revoke", "nobody"]) == 1
    assert "there is no key nobody" in capsys.readouterr().err


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(clock: Clock) -> None:
    async with client(clock, requests_per_second=0.5, requests_burst=2) as http:
        first, _, third = [await http.get("/v1/things") for _ in range(3)]
        assert (first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == ("2", "1")
        assert (third.status_code, third.json()["code"]) == (429, "RATE_LIMITED")
        assert third.headers["Retry-After"] == "2"
        assert (await http.get("/readyz")).status_code == 200
        clock.seconds = 2
        assert (await http.get("/v1/things")).status_code == 200


def steps() -> Iterator[Any]:
    yield st.tuples(st.floats(0, 5), st.sampled_from(["a", "b"]))


@given(st.lists(next(steps()), max_size=60), st.floats(0.1, 10), st.integers(1, 5))
def test_no_more_pass_than_the_burst_and_the_rate(
    requests: list[tuple[float, str]], rate: float, burst: int
) -> None:
    clock = Clock()
    limit = RateLimit(per_second=rate, burst=burst, clock=clock)  # type: ignore[arg-type]
    passed = {"a": 0, "b": 0}
    for wait, who in requests:
        clock.seconds += wait
        passed[who] += limit.take(who).passes
        assert passed[who] <= burst + rate * clock.seconds + 1e-6
