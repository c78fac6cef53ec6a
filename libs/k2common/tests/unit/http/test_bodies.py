"""Bodies and readers have bounds of size and time on every service, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import jsonschema
import pytest
from k2common.http.app import create_app
from k2common.http.bodies import MIN_BODY_BYTES, PacedBody
from k2common.http.openapi import PROBLEM
from k2common.http.problems import Problem
from k2common.http.streaming import StreamedResponse
from k2common.runtime.connections import BoundedConnection
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings
from k2common.testing.server import answer_of, on_socket, sent
from k2common.testing.virtual_time import in_virtual_time, seconds_passed
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope

WAIT = 20
"""Seconds until a test gives up; none of them waits so long unless it fails."""


class Served:
    """What a service saw."""

    def __init__(self) -> None:
        self.metrics = CollectorRegistry()
        self.closed = asyncio.Event()
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def length(self, request: Request) -> Response:
        return JSONResponse({"length": len(await request.body())})

    async def stream(self, _: Request) -> Response:
        return StreamedResponse(self._endless(), reader_seconds=3600, media_type="text/csv")

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            self.closed.set()

    def answered(self, status: int) -> float:
        labels = {"route": "/v1/things", "status": str(status)}
        return self.metrics.get_sample_value("k2_http_requests_answered_total", labels) or 0

    async def sent(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await sent(self.port, request)
        self.writers.append(writer)
        return reader, writer

    async def post(self, body: bytes, *headers: str) -> tuple[int, bytes]:
        reader, _ = await self.sent(head(*headers) + body)
        return await asyncio.wait_for(answer_of(reader), WAIT)

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def head(*headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} /v1/things HTTP/1.1", "Host: 127.0.0.1", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def made(one: Served, *, streamed: bool = False, **settings: Any) -> ASGIApp:
    return create_app(
        [
            Route("/v1/things", one.length, methods=["POST"]),
            Route("/v1/things", one.stream, methods=["GET"]),
        ],
        readiness=Readiness(),
        metrics=one.metrics,
        settings=HttpSettings(port=1, **settings),
        streamed=["/v1/things"] if streamed else [],
    )


@asynccontextmanager
async def served(*, streamed: bool = False, **settings: Any) -> AsyncIterator[Served]:
    one = Served()
    async with on_socket(made(one, streamed=streamed, **settings)) as one.port:
        try:
            yield one
        finally:
            await one.close()


async def asked(app: ASGIApp, receive: Receive) -> tuple[int, bytes]:
    """The answer to a body, without a connection."""
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/things",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"10")],
        "client": ("127.0.0.1", 1),
    }
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages)


async def silence() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def sends(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def parts(size: int, *, count: int, every: float) -> Receive:
    """A client that sends `count` parts of a body, each so many seconds after it is waited for."""
    left = iter(range(count - 1, -1, -1))

    async def receive() -> Message:
        await asyncio.sleep(every)
        return {"type": "http.request", "body": b"x" * size, "more_body": next(left) > 0}

    return receive


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_body_with_two_lengths_is_refused() -> None:
    async with served() as service:
        body = b"2\r\nab\r\n0\r\n\r\n"
        answer = await service.post(body, "Content-Length: 12", "Transfer-Encoding: chunked")
    assert answer[0] == 400
    assert b"AMBIGUOUS_LENGTH" in answer[1]


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b"x" * 2000, "Content-Length: 2000"),
        (b"", "Content-Length: 99999999999999"),
        (b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    ],
)
async def test_a_body_beyond_the_limit_is_refused(body: bytes, header: str) -> None:
    async with served(max_body_bytes=1024) as service:
        status, problem = await service.post(body, header)
        assert (status, b"BODY_TOO_LARGE" in problem) == (413, True)
        assert await service.post(b"x" * 1024, "Content-Length: 1024") == (200, b'{"length":1024}')


@in_virtual_time
async def test_silent_bodies_end_in_their_time_and_give_their_places_back() -> None:
    app = made(Served(), body_seconds=1, max_bodies=4, max_bodies_per_caller=4)
    silent = [asyncio.create_task(asked(app, silence)) for _ in range(4)]
    await asyncio.sleep(0.9)
    status, problem = await asked(app, sends(b"x" * 10))
    assert (status, b"TOO_MANY_BODIES" in problem) == (429, True)
    for status, problem in await asyncio.gather(*silent):
        assert (status, b"BODY_TOO_SLOW" in problem) == (408, True)
    assert seconds_passed() == 1
    assert await asked(app, sends(b"x" * 10)) == (200, b'{"length":10}')


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_connection_of_a_silent_body_is_closed(streamed: bool) -> None:
    async with served(streamed=streamed, body_seconds=0.02) as service:
        reader, _ = await service.sent(head("Content-Length: 10") + b"123")
        status, problem = await asyncio.wait_for(answer_of(reader), WAIT)
        assert (status, b"BODY_TOO_SLOW" in problem) == (408, True)
        assert await asyncio.wait_for(reader.read(), WAIT) == b""


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (rb'"\ud83d\ude00 \u0041 \\ud800"', None),
        (rb'"\ud83d\ude00\ud83d\ude00"', None),
        (rb'"\ud800"', 7),
        (rb'"\ud800 \udc00"', 8),
        (rb'"\udc00"', 1),
        (rb'"\ud800\ud800\udc00"', 7),
        (rb'"\ud800\n"', 7),
        (rb'"\\\ud800"', 9),
    ],
)
async def test_half_of_a_surrogate_pair_is_refused(text: bytes, at: int | None) -> None:
    status, problem = await asked(made(Served()), sends(text))
    assert status == (200 if at is None else 400)
    if at is not None:
        assert f"at byte {at}".encode() in problem


@in_virtual_time
async def test_a_slow_body_that_makes_progress_is_taken() -> None:
    body = PacedBody(parts(MIN_BODY_BYTES, count=4, every=0.9), seconds=1)
    assert len(await body.whole(limit=4 * MIN_BODY_BYTES)) == 4 * MIN_BODY_BYTES
    assert seconds_passed() == 3.6


@in_virtual_time
async def test_a_body_without_progress_ends_at_its_limit() -> None:
    body = PacedBody(parts(MIN_BODY_BYTES // 4, count=8, every=0.3), seconds=1)
    with pytest.raises(Problem) as problem:
        await body.whole(limit=4 * MIN_BODY_BYTES)
    assert (problem.value.code, seconds_passed()) == ("BODY_TOO_SLOW", 1)


@in_virtual_time
async def test_the_time_of_the_service_is_not_charged_to_the_client() -> None:
    body = PacedBody(parts(1024, count=2, every=0.4), seconds=1)
    await body.receive()
    await asyncio.sleep(3600)
    assert (await body.receive())["more_body"] is False
    assert seconds_passed() == 3600.8


async def test_what_is_no_request_is_refused_by_a_problem_document() -> None:
    async with served() as service:
        reader, _ = await service.sent(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nno header\r\n\r\n")
        status, problem = await asyncio.wait_for(answer_of(reader), WAIT)
    document = json.loads(problem)
    assert (status, document["code"]) == (400, "MALFORMED_REQUEST")
    jsonschema.validate(document, PROBLEM)


async def test_one_caller_leaves_places_to_others() -> None:
    async with served(max_bodies=10, max_bodies_per_caller=1) as service:
        await service.sent(head("Content-Length: 10"))
        await until(lambda: service.metrics.get_sample_value("k2_http_requests_running") == 1)
        status, problem = await service.post(b"x", "Content-Length: 1")
        assert (status, b"of this caller" in problem) == (429, True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(streamed: bool) -> None:
    async with served(streamed=streamed) as service:
        _, writer = await service.sent(head("Content-Length: 10") + b"123")
        await until(lambda: service.metrics.get_sample_value("k2_http_requests_running") == 1)
        writer.close()
        await until(lambda: service.metrics.get_sample_value("k2_http_requests_running") == 0)
        assert (service.answered(499), service.answered(500)) == (1, 0)


async def test_a_reader_who_reads_nothing_is_cut_off() -> None:
    async with served(reader_seconds=0.02) as service:
        await service.sent(head(method="GET"))
        await asyncio.wait_for(service.closed.wait(), WAIT)
        await until(lambda: service.metrics.get_sample_value("k2_http_requests_running") == 0)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"POST /v1/things HTTP/1.1\r\nHost:",
        head("Content-Length: 99999") + b"the beginning",
        head(method="GET"),
    ],
    ids=["nothing", "half a head", "a body that was refused", "an answer that is not read"],
)
async def test_connections_without_progress_are_aborted(
    request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "idle_seconds", 0.05)
    lost = asyncio.Event()
    known = BoundedConnection.connection_lost

    def connection_lost(self: BoundedConnection, error: Exception | None) -> None:
        lost.set()
        known(self, error)

    monkeypatch.setattr(BoundedConnection, "connection_lost", connection_lost)
    async with served(reader_seconds=0.02, max_body_bytes=1024, body_seconds=0.02) as service:
        await service.sent(request_bytes)
        await asyncio.wait_for(lost.wait(), WAIT)
