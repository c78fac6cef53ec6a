"""Answers of any length: work stops when the client goes, and one that fails midway never looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from math import ceil

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2common.http.bodies import PIECE_BYTES, ReaderTooSlow, taken_within
from k2common.query import timings
from k2common.query.admission import BEGUN

BODY_MESSAGES = 8
__all__ = ("Attended", "ReaderTooSlow", "StreamedResponse")


class StreamedResponse(Response):
    """A body in parts, as they are made.

    The headers are sent with the first part, so that what fails before it is answered as any other problem.
    A client has `reader_seconds` to take each PIECE_BYTES. Any error ends the connection without the body's
    end.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        *,
        reader_seconds: float,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self._parts = parts
        self._reader_seconds = reader_seconds
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        begun = False
        try:
            async for part in self._parts:
                if part:
                    if not begun:
                        await send(start)
                        begun = True
                        BEGUN.set(True)
                    await self._send_part(part, send)
        finally:
            await self._parts.aclose()
        if not begun:
            await send(start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_part(self, part: bytes, send: Send) -> None:
        message: Message = {"type": "http.response.body", "body": part, "more_body": True}
        pieces = ceil(len(part) / PIECE_BYTES)
        await taken_within(self._reader_seconds * pieces, partial(send, message))


class Attended:
    """ASGI middleware: the work for a request is timed, and cancelled once its client has gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timings.begin()
        messages: asyncio.Queue[Message] = asyncio.Queue(BODY_MESSAGES)
        work = asyncio.ensure_future(self._app(scope, messages.get, send))
        leaving = asyncio.ensure_future(_until_gone(receive, messages))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled():
            work.result()


async def _until_gone(receive: Receive, messages: asyncio.Queue[Message]) -> None:
    while (message := await receive())["type"] != "http.disconnect":
        await messages.put(message)
