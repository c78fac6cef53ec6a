"""Bounds on the bodies of requests and on the readers of answers, the same for every service."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2common.http.json_bodies import refuse_repeated_keys
from k2common.http.parameters import invalid
from k2common.http.problems import FieldError, Problem, problem_response
from k2common.query.admission import CALLER
from k2common.settings.service import HttpSettings

MIN_BODY_BYTES = 16 * 1024
"""A client sends at least so much, or the body's end, in each `body_seconds` of waiting for it."""

PIECE_BYTES = 64 * 1024
"""A client takes at least so much of an answer in each `reader_seconds`."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
RETRY_SECONDS = "2"
CLOSE = {"Connection": "close"}
Result = TypeVar("Result")


class ReaderTooSlow(ConnectionError):
    """The client did not take a part of an answer within its time."""


class Places:
    """At most `total` bodies at once, and at most `per_caller` of one key or address."""

    def __init__(self, *, total: int, per_caller: int) -> None:
        self._total = total
        self._per_caller = per_caller
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """The number of places that are taken."""
        return self._taken.total()

    @contextmanager
    def one(self, *, code: str) -> Iterator[None]:
        """Hold a place of the present caller.

        Raises Problem 429 with `code` where the service or the caller has none left.
        """
        caller = CALLER.get()
        if self.taken >= self._total:
            raise _no_place(code, f"{self._total} bodies are being received")
        if self._taken[caller] >= self._per_caller:
            raise _no_place(code, f"{self._per_caller} bodies of this caller are being received")
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]


class PacedBody:
    """The messages of a request's body, from a client that has to make progress."""

    def __init__(self, receive: Receive, *, seconds: float) -> None:
        self._receive = receive
        self._seconds = self._left = seconds
        self._bytes = 0
        self._ended = False

    async def receive(self) -> Message:
        """Return the next message.

        Only the time that is spent here counts. Raises Problem 408 for a client that is too slow.
        """
        if self._ended:
            return await self._receive()
        loop = asyncio.get_running_loop()
        started = loop.time()
        message = await within(self._left, self._receive, otherwise=lambda: _too_slow(self._seconds))
        self._left -= loop.time() - started
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes >= MIN_BODY_BYTES:
            self._bytes, self._left = 0, self._seconds
        return message

    async def whole(self, *, limit: int) -> bytes:
        """Return the whole body.

        Raises Problem 408 and 413, and ClientDisconnect where the client left before the body's end.
        """
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_large(limit)
            if not message.get("more_body", False):
                return bytes(body)


class BoundedBodies:
    """ASGI middleware: reads each body before the handler does, within its limits of size and time.

    Bodies of the paths in `streamed` are passed on as they come, and the handlers limit their size.
    """

    def __init__(self, app: ASGIApp, *, settings: HttpSettings, streamed: Sequence[str] = ()) -> None:
        self._app = app
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_seconds
        self._streamed = frozenset(streamed)
        self._places = Places(total=settings.max_bodies, per_caller=settings.max_bodies_per_caller)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        body = PacedBody(receive, seconds=self._seconds)
        if scope["path"] in self._streamed:
            await self._app(scope, body.receive, send)
            return
        try:
            content = await self._read(body, Headers(scope=scope).get("Content-Length"))
            refuse_lone_surrogates(content)
            refuse_repeated_keys(content)
        except Problem as problem:
            await problem_response(problem, Request(scope))(scope, receive, send)
            return
        await self._app(scope, _given(content, receive), send)

    async def _read(self, body: PacedBody, length: str | None) -> bytes:
        # uvicorn lets only digits through; in the rare other server a wrong length is found by counting.
        if length is not None and length.isdecimal() and int(length) > self._limit:
            raise too_large(self._limit)
        with self._places.one(code="TOO_MANY_BODIES"):
            return await body.whole(limit=self._limit)


class OneLength:
    """ASGI middleware: 400 for a body with two lengths, on which proxies disagree (RFC 9112, 6.1)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name.lower() for name, _ in scope.get("headers", ())} if scope["type"] == "http" else ()
        if b"transfer-encoding" in names and b"content-length" in names:
            message = "the request has both Transfer-Encoding and Content-Length"
            problem = Problem(HTTPStatus.BAD_REQUEST, "AMBIGUOUS_LENGTH", message, headers=CLOSE)
            await problem_response(problem, Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)


class PacedAnswers:
    """ASGI middleware: cuts the connection of a client that does not take its answer."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_paced(message: Message) -> None:
            for piece in pieces_of(message):
                await taken_within(self._seconds, partial(send, piece))

        await self._app(scope, receive, send_paced if scope["type"] == "http" else send)


def pieces_of(message: Message) -> Iterator[Message]:
    """Return the messages that send the same as `message`, each of at most PIECE_BYTES."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PIECE_BYTES:
        yield message
        return
    for at in range(0, len(body), PIECE_BYTES):
        is_last = at + PIECE_BYTES >= len(body)
        more = not is_last or message.get("more_body", False)
        yield {**message, "body": body[at : at + PIECE_BYTES], "more_body": more}


async def taken_within(seconds: float, send: Callable[[], Awaitable[None]]) -> None:
    """Wait for `send`. Raises ReaderTooSlow after `seconds`."""
    await within(seconds, send, otherwise=lambda: ReaderTooSlow(f"nothing was read within {seconds:g} s"))


async def within(
    seconds: float, work: Callable[[], Awaitable[Result]], *, otherwise: Callable[[], Exception]
) -> Result:
    """Return the result of `work`. Raises `otherwise()` where it takes longer than `seconds`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work()
    except TimeoutError as error:
        # A time-out of the work's own is no business of this one.
        if not limit.expired():
            raise
        raise otherwise() from error


def refuse_lone_surrogates(text: bytes) -> None:
    """Raise Problem 400 for JSON with half of a surrogate pair, which is no character (RFC 8259, 8.2)."""
    if SURROGATE.search(text) is None:
        return
    high_ends_at = None
    for escape in ESCAPE.finditer(text):
        code = int(escape[1] or b"0", 16)
        is_low = 0xDC00 <= code < 0xE000
        follows = high_ends_at == escape.start()
        if is_low != follows or (high_ends_at is not None and not follows):
            raise _lone_surrogate(escape.start())
        high_ends_at = escape.end() if 0xD800 <= code < 0xDC00 else None
    if high_ends_at is not None:
        raise _lone_surrogate(high_ends_at)


def too_large(limit: int) -> Problem:
    """Return Problem 413 for a body beyond `limit` bytes."""
    message = f"the body is longer than {limit} bytes"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE", message)


def _lone_surrogate(at: int) -> Problem:
    message = f"the body has half of a surrogate pair at byte {at}"
    return invalid([FieldError(parameter="/", code="INVALID", message=message)])


def _too_slow(seconds: float) -> Problem:
    message = f"less than {MIN_BODY_BYTES} bytes of the body came within {seconds:g} s"
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "BODY_TOO_SLOW", message, headers=CLOSE)


def _no_place(code: str, message: str) -> Problem:
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, code, message, headers={"Retry-After": RETRY_SECONDS})


def _has_body(headers: Headers) -> bool:
    return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers


def _given(content: bytes, receive: Receive) -> Receive:
    kept = [content]

    async def receive_given() -> Message:
        if kept:
            return {"type": "http.request", "body": kept.pop(), "more_body": False}
        return await receive()

    return receive_given
