"""Replays are bounded: their streams by place and progress, their sessions by number and age."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from k2common.engine.connection import Engine
from k2common.http.access.keys import create as create_key
from k2common.http.app import create_app
from k2common.http.queries import install_query_problems
from k2common.http.streaming import Attended
from k2common.http.tokens import TokenMaker
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.runtime.readiness import Readiness
from k2common.settings.engine import EngineSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.service import HttpSettings
from k2common.testing.server import on_socket, sent
from prometheus_client import CollectorRegistry
from replay_service.metrics import ReplayMetrics
from replay_service.routes import Routes, SessionsPage
from replay_service.sessions import Sessions
from replay_service.stream import CursorToken

from tests.integration.answers.house import House, open_house

ROWS = 40_000
SECRET = b"a secret of the tests"
WAIT = 60
"""Seconds until a test gives up; none of them waits so long unless it fails."""


class Codec:
    """Values as they are."""

    def encode(self, record: Any) -> Any:
        return record


class Hours(Clock):
    """A clock that is set."""

    passed = 0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.passed)

    def monotonic(self) -> float:
        return 0.0


class InMemory(Sessions):
    """Sessions whose topic is a dict."""

    def __init__(self, clock: Clock, most: int, most_per_caller: int) -> None:
        kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        codec = cast("Any", Codec())
        super().__init__(
            kafka,
            codec=codec,
            replica="0",
            clock=clock,
            most=most,
            most_per_caller=most_per_caller,
            age=timedelta(days=1),
        )
        self.topic: dict[str, Any] = {}
        self.follower.caught_up.set()

    async def _write(self, values: Any) -> None:
        await asyncio.sleep(0)
        for key, value in values.items():
            self.topic[key] = value
            await self._take(cast("Any", Record(key.encode(), value)))

    async def _take(self, record: Any) -> None:
        if record.value is None:
            await super()._take(record)


@dataclass(frozen=True)
class Record:
    key: bytes
    value: Any


@dataclass
class Replays:
    """A replay service on a port of its own."""

    http: httpx.AsyncClient
    sessions: InMemory
    metrics: CollectorRegistry
    clock: Hours
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def create(self) -> httpx.Response:
        return await self.http.post("/v1/replays", json={})

    async def silent_reader(self, session: str) -> None:
        request = f"GET /v1/replays/{session}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        _, writer = await sent(self.port, request.encode())
        self.writers.append(writer)

    async def streams(self, number: int) -> None:
        """Wait until so many streams are open."""
        async with asyncio.timeout(WAIT):
            while self.metrics.get_sample_value("k2_replays_streamed") != number:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def replays(
    house: House, engine: EngineSettings, *, most: int = 1000, most_per_caller: int = 1000, **http: Any
) -> AsyncIterator[Replays]:
    opened, blocking, registry = Engine(engine), Blocking(workers=2), CollectorRegistry()
    queries, clock = Queries(opened, engine), Hours()
    settings = HttpSettings(port=1, **http)
    routes = Routes(
        sessions=(sessions := InMemory(clock, most, most_per_caller)),
        reader=house.reader,
        queries=queries,
        blocking=blocking,
        clock=clock,
        metrics=ReplayMetrics(registry),
        cursors=TokenMaker(SECRET, purpose="replay: cursor", shape=CursorToken),
        pages=TokenMaker(SECRET, purpose="replay: page of sessions", shape=SessionsPage),
        reader_seconds=settings.reader_seconds,
    )
    app = create_app(
        routes.routes(), readiness=Readiness(), metrics=registry, settings=settings, writes="read"
    )
    install_query_problems(app)
    app.add_middleware(Attended)
    async with on_socket(app) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT) as client:
            served = Replays(client, sessions, registry, clock, port)
            yield served
        for writer in served.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    queries.close()
    opened.close()
    blocking.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


def engine(**settings: Any) -> EngineSettings:
    return EngineSettings(memory_megabytes=256, **settings)


async def test_silent_readers_lose_their_streams_and_others_are_refused_before_the_first_byte(
    house: House,
) -> None:
    house.add("trades", [{"price": "1", "size": "1", "attributes": [("a", "x" * 200)]}] * ROWS)
    settings = engine(open_streams=2, streams_per_caller=2, queue_timeout_seconds=0.1)
    async with replays(house, settings, reader_seconds=10) as service:
        session = (await service.create()).json()["data"]["session_id"]
        for _ in range(2):
            await service.silent_reader(session)
        await service.streams(2)
        refused = await service.http.get(f"/v1/replays/{session}/stream")
        assert refused.status_code in (429, 503)
        assert refused.headers["Retry-After"]
        assert refused.json()["code"] in ("TOO_MANY_QUERIES", "OVERLOADED")
        await service.streams(0)
        answer = await service.http.get(f"/v1/replays/{session}/stream")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert (lines[0]["type"], lines[-1]["type"]) == ("replay_started", "replay_completed")
        assert lines[-1]["rows"] == ROWS


async def test_a_reader_who_leaves_gives_its_place_back(house: House) -> None:
    house.add("trades", [{"price": "1", "size": "1", "attributes": [("a", "x" * 200)]}] * ROWS)
    async with replays(house, engine(open_streams=1, streams_per_caller=1)) as service:
        session = (await service.create()).json()["data"]["session_id"]
        await service.silent_reader(session)
        await service.streams(1)
        service.writers[0].close()
        await service.streams(0)
        assert (await service.http.get(f"/v1/replays/{session}/stream")).status_code == 200


async def test_sessions_are_bounded_and_come_in_pages(house: House) -> None:
    house.add("trades", [{"price": "1"}])
    async with replays(house, engine(), most=5) as service:
        created = [(await service.create()).json()["data"]["session_id"] for _ in range(5)]
        refused = await service.create()
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_REPLAYS")
        assert refused.headers["Retry-After"]
        listed: list[str] = []
        token: str | None = None
        while True:
            page = {"limit": "2"} | ({} if token is None else {"page_token": token})
            answer = (await service.http.get("/v1/replays", params=page)).json()
            assert len(answer["data"]) <= 2
            listed += [session["session_id"] for session in answer["data"]]
            if (token := answer["next_page_token"]) is None:
                break
        assert listed == sorted(created, reverse=True)
        assert (await service.http.get("/v1/replays?page_token=x")).status_code == 400
        assert (await service.http.delete(f"/v1/replays/{created[0]}")).status_code == 204
        assert (await service.create()).status_code == 201


async def test_one_caller_leaves_sessions_to_others(house: House, tmp_path: Path) -> None:
    house.add("trades", [{"price": "1"}])
    keys = tmp_path / "keys.json"
    mine, others = (
        create_key(keys, name=name, scopes=["read"], now=datetime.now(UTC)) for name in ("mine", "others")
    )
    async with replays(house, engine(), most=4, most_per_caller=2, keys_file=keys) as service:

        async def create(key: str) -> httpx.Response:
            return await service.http.post("/v1/replays", json={}, headers={"X-API-Key": key})

        # At once: a session that is being written has its place already.
        answers = await asyncio.gather(*(create(mine) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 429]
        refused = await create(mine)
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_REPLAYS")
        assert "this caller" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        created = await create(others)
        assert created.status_code == 201
        path = next(answer.headers["Location"] for answer in answers if answer.status_code == 201)
        assert (await service.http.delete(path, headers={"X-API-Key": mine})).status_code == 204
        assert (await create(mine)).status_code == 201


async def test_a_session_expires_and_leaves_the_topic(house: House) -> None:
    house.add("trades", [{"price": "1"}])
    async with replays(house, engine(), most=2) as service:
        old = [(await service.create()).json()["data"]["session_id"] for _ in range(2)]
        service.clock.passed = 25
        assert (await service.http.get(f"/v1/replays/{old[0]}")).status_code == 404
        assert (await service.http.get("/v1/replays")).json()["data"] == []
        assert (await service.create()).status_code == 201
        assert [service.sessions.topic[one] for one in old] == [None, None]
